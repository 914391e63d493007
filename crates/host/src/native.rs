//! Libraries that are loaded at run time, so that one program serves machines that have them and machines that do not.

/// Declares a library: a structure of its functions, and `get`, which loads it when it is asked for first. A library that
/// is not there is looked for again the next time.
///
/// The signatures are those of the library's header, by which calling them is sound.
macro_rules! library {
    ($(#[$about:meta])* $name:ident = $file:literal { $(fn $function:ident($($argument:ty),* $(,)?) $(-> $result:ty)?;)* }) => {
        $(#[$about])*
        struct $name {
            $($function: unsafe extern "C" fn($($argument),*) $(-> $result)?,)*
        }

        impl $name {
            fn get() -> std::io::Result<&'static $name> {
                static LOADED: std::sync::OnceLock<$name> = std::sync::OnceLock::new();
                if let Some(loaded) = LOADED.get() {
                    return Ok(loaded);
                }
                let loaded = $name::load().map_err(|e| std::io::Error::other(format!("cannot load {}: {e}", $file)))?;
                Ok(LOADED.get_or_init(|| loaded))
            }

            fn load() -> Result<$name, libloading::Error> {
                // SAFETY: the library is one of those that this crate declares, whose initializers expect to be run like
                // this, and it stays loaded until the process ends, so that its functions do.
                unsafe {
                    let library = std::mem::ManuallyDrop::new(libloading::Library::new($file)?);
                    Ok($name { $($function: *library.get(concat!(stringify!($function), "\0").as_bytes())?,)* })
                }
            }
        }
    };
}

pub(crate) use library;
