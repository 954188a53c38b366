//! Makes the busybox image: `basalt-image FILE.tar.gz`.

use std::path::Path;
use std::process::ExitCode;

fn main() -> ExitCode {
    let Some(file) = std::env::args_os().nth(1) else {
        eprintln!("usage: basalt-image FILE.tar.gz");
        return ExitCode::from(2);
    };
    match basalt_tests::image::busybox(Path::new(&file)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("basalt-image: {error:#}");
            ExitCode::FAILURE
        }
    }
}
