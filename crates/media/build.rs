//! Compiles the libvpx shim and links Debian's `libvpx.a` statically; refuses to build without nasm.
//!
//! Without nasm, openh264 builds silently without its assembly and is two to three times slower.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

fn main() {
    println!("cargo:rerun-if-changed=csrc/vpx_shim.c");
    println!("cargo:rerun-if-env-changed=LIBVPX_LIB_DIR");
    println!("cargo:rerun-if-env-changed=PATH");
    require_nasm();
    let dir = libvpx_dir();
    cc::Build::new()
        .file("csrc/vpx_shim.c")
        .warnings(true)
        .extra_warnings(true)
        .warnings_into_errors(true)
        .compile("antiphon_vpx_shim");
    println!("cargo:rustc-link-search=native={}", dir.display());
    println!("cargo:rustc-link-lib=static=vpx");
    println!("cargo:rustc-link-lib=m");
}

fn require_nasm() {
    let x86 = env::var("CARGO_CFG_TARGET_ARCH").is_ok_and(|arch| arch == "x86_64" || arch == "x86");
    let found = Command::new("nasm").arg("-v").output().is_ok_and(|out| out.status.success());
    assert!(
        !x86 || found,
        "\n\nantiphon-media needs nasm to build H.264 with its assembly (without it, it is 2-3 times slower).\n\
         Install it and build again:  apt-get install nasm cmake libvpx-dev   (or run `make deps`)\n\n"
    );
}

/// Where `libvpx.a` is: `LIBVPX_LIB_DIR`, or the places distributions use.
fn libvpx_dir() -> PathBuf {
    let arch = env::var("CARGO_CFG_TARGET_ARCH").unwrap_or_default();
    let given = env::var("LIBVPX_LIB_DIR").ok().map(PathBuf::from);
    let multiarch = PathBuf::from(format!("/usr/lib/{arch}-linux-gnu"));
    let usual = [multiarch, "/usr/local/lib".into(), "/usr/lib64".into(), "/usr/lib".into()];
    let has_archive = |dir: &PathBuf| Path::new(dir).join("libvpx.a").exists();
    given.into_iter().chain(usual).find(has_archive).unwrap_or_else(|| {
        panic!(
            "\n\nantiphon-media links libvpx statically and found no libvpx.a.\n\
             Install it:  apt-get install libvpx-dev   (or set LIBVPX_LIB_DIR to the directory that has it)\n\n"
        )
    })
}
