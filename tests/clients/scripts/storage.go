// The storage API through a client that is written in Go alone. Arguments: a socket, a directory.
package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/digitalocean/go-libvirt"
	"github.com/digitalocean/go-libvirt/socket/dialers"
)

func check(err error) {
	if err != nil {
		fmt.Println("failed:", err)
		os.Exit(1)
	}
}

func refused(what string, err error) {
	var wire libvirt.Error
	if errors.As(err, &wire) {
		fmt.Println(what, "refused", wire.Code, wire.Message)
	} else {
		fmt.Println(what, "not refused:", err)
	}
}

func main() {
	root := os.Args[2]
	dialer := dialers.NewLocal(dialers.WithSocket(os.Args[1]), dialers.WithLocalTimeout(10*time.Second))
	l := libvirt.NewWithDialer(dialer)
	check(l.ConnectToURI("storage:///system"))
	version, err := l.ConnectGetLibVersion()
	check(err)
	fmt.Println("version", version)

	xml := "<pool type='dir'><name>go</name><target><path>" + root + "/go</path></target></pool>"
	pool, err := l.StoragePoolDefineXML(xml, 0)
	check(err)
	check(l.StoragePoolBuild(pool, 0))
	check(l.StoragePoolCreate(pool, 0))
	pools, count, err := l.ConnectListAllStoragePools(1, 0)
	check(err)
	fmt.Println("pools", count, pools[0].Name)
	state, capacity, _, _, err := l.StoragePoolGetInfo(pool)
	check(err)
	fmt.Println("state", state, capacity > 0)
	for i := 0; i < 20; i++ {
		volume := fmt.Sprintf("<volume><name>v%02d</name><capacity>1048576</capacity></volume>", i)
		_, err := l.StorageVolCreateXML(pool, volume, 0)
		check(err)
	}
	volumes, count, err := l.StoragePoolListAllVolumes(pool, 1, 0)
	check(err)
	fmt.Println("volumes", count, len(volumes))

	volume, err := l.StorageVolLookupByName(pool, "v07")
	check(err)
	fmt.Println(volume.Pool, volume.Name, volume.Key)
	content := bytes.Repeat([]byte("0123456789abcdef"), 65536)
	check(l.StorageVolUpload(volume, bytes.NewReader(content), 0, 0, 0))
	var back bytes.Buffer
	check(l.StorageVolDownload(volume, &back, 0, 0, 0))
	fmt.Println("the same", bytes.Equal(back.Bytes(), content))
	check(l.StorageVolResize(volume, 2097152, 0))
	kind, size, allocation, err := l.StorageVolGetInfo(volume)
	check(err)
	fmt.Println("info", kind, size, allocation)
	description, err := l.StorageVolGetXMLDesc(volume, 0)
	check(err)
	fmt.Println("described", bytes.Contains([]byte(description), []byte("<name>v07</name>")))
	_, err = l.StorageVolLookupByName(pool, "nosuch")
	refused("look-up", err)
	refused("undefine", l.StoragePoolUndefine(pool))
	_, err = l.StorageVolCreateXML(pool, "<volume><name>v07</name><capacity>1</capacity></volume>", 0)
	refused("create", err)
	for _, volume := range volumes {
		check(l.StorageVolDelete(volume, 0))
		fmt.Println("deleted one")
	}
	check(l.StoragePoolDestroy(pool))
	check(l.StoragePoolDelete(pool, 0))
	check(l.StoragePoolUndefine(pool))
	check(l.Disconnect())
	fmt.Println("done")
}
