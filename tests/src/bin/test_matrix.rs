//! The matrix: every interpreter that is here, on every loop that it has, watched for some seconds.
//!
//! One line each: are the CPU seconds right, are the stalls named, were the sessions found that were
//! there before. Ends with 1 when any of it is missed; what is not here is listed as not run.

use std::process::ExitCode;

use openrtc_tests::matrix;

fn main() -> ExitCode {
    let words: Vec<_> = std::env::args().skip(1).collect();
    match matrix::run(&words) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("test-matrix: {error:#}");
            ExitCode::FAILURE
        }
    }
}
