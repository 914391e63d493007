# The storage API through Sys::Virt: prints what every call gives. Arguments: URI, a directory.
use strict;
use warnings;
use Sys::Virt;

my ($uri, $root) = @ARGV;
my $conn = Sys::Virt->new(uri => $uri);

sub tried {
    my ($what, $call) = @_;
    my @values = eval { $call->() };
    if (my $error = $@) {
        print "$what: error ", $error->code, " ", $error->domain, " ", $error->message, "\n";
        return;
    }
    print "$what: ", join(" ", map { ref $_ ? $_->get_name : $_ // "-" } @values), "\n";
    return $values[0];
}

print "version ", $conn->get_library_version, "\n";
print "secure ", $conn->is_secure, " alive ", $conn->is_alive, "\n";
my $xml = "<pool type='dir'><name>pl</name><target><path>$root/pl</path></target></pool>";
my $pool = tried("define", sub { $conn->define_storage_pool($xml) });
tried("build", sub { $pool->build(0) });
tried("create", sub { $pool->create });
tried("create", sub { $pool->create });
tried("autostart", sub { $pool->set_autostart(1); $pool->get_autostart });
tried("autostart", sub { $pool->set_autostart(0); $pool->get_autostart });
tried("active", sub { $pool->is_active });
tried("persistent", sub { $pool->is_persistent });
tried("pools", sub { map { $_->get_name } $conn->list_all_storage_pools });
tried("pools", sub { map { $_->get_name } $conn->list_storage_pools });
tried("defined pools", sub { map { $_->get_name } $conn->list_defined_storage_pools });
tried("numbers", sub { ($conn->num_of_storage_pools, $conn->num_of_defined_storage_pools) });
tried("by name", sub { $conn->get_storage_pool_by_name("pl") });
tried("by name", sub { $conn->get_storage_pool_by_name("nosuch") });
tried("by uuid", sub { $conn->get_storage_pool_by_uuid($pool->get_uuid) });
tried("by path", sub { $conn->get_storage_pool_by_target_path("$root/pl") });
tried("state", sub { $pool->get_info->{state} });

my $volume = tried("volume", sub {
    $pool->create_volume("<volume><name>v</name><capacity>1048576</capacity><allocation>0</allocation></volume>");
});
tried("again", sub { $pool->create_volume("<volume><name>v</name><capacity>1</capacity></volume>") });
tried("volumes", sub { map { $_->get_name } $pool->list_all_volumes });
tried("volumes", sub { map { $_->get_name } $pool->list_volumes });
tried("number", sub { $pool->num_of_storage_volumes });
tried("info", sub { my $info = $volume->get_info; ($info->{type}, $info->{capacity}, $info->{allocation}) });
tried("key", sub { ($volume->get_key, $volume->get_path) });
tried("by key", sub { $conn->get_storage_volume_by_key($volume->get_key) });
tried("by path", sub { $conn->get_storage_volume_by_path($volume->get_path) });
tried("by name", sub { $pool->get_volume_by_name("nosuch") });
tried("resize", sub { $volume->resize(2097152); $volume->get_info->{capacity} });
tried("shrink", sub { $volume->resize(1048576) });

my $content = "some text " x 50000;
tried("upload", sub {
    my $stream = $conn->new_stream;
    $volume->upload($stream, 0, 0);
    my $at = 0;
    $stream->send_all(sub {
        my ($stream, undef, $count) = @_;
        my $piece = substr($content, $at, $count);
        $_[1] = $piece;
        $at += length $piece;
        return length $piece;
    });
    $stream->finish;
    "sent";
});
tried("download", sub {
    my $stream = $conn->new_stream;
    $volume->download($stream, 0, length $content);
    my $got = "";
    $stream->recv_all(sub { my ($stream, $data, $count) = @_; $got .= substr($data, 0, $count); return $count });
    $stream->finish;
    $got eq $content ? "the same" : "different";
});
my $copy = tried("clone", sub {
    $pool->clone_volume("<volume><name>copy</name><capacity>2097152</capacity></volume>", $volume);
});
tried("wipe", sub { $copy->wipe(0); "wiped" });
tried("wipe", sub { $copy->wipe_pattern(Sys::Virt::StorageVol::WIPE_ALG_ZERO()); "wiped" });
tried("delete", sub { $_->delete(0) for ($copy, $volume); "deleted" });
tried("undefine", sub { $pool->undefine });
tried("refresh", sub { $pool->refresh(0); "read" });
tried("destroy", sub { $pool->destroy; "stopped" });
tried("delete", sub { $pool->delete(0); "deleted" });
tried("undefine", sub { $pool->undefine; "gone" });
