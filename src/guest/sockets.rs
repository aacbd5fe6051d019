//! Which sockets may be made inside: a seccomp filter on all that the guest starts, beside the engine's own.
//!
//! A network namespace holds IP, packets and abstract sockets, and that is all it holds. AF_VSOCK reaches the host of a
//! virtual machine out of any namespace; the profiles of docker before 23 and of podman 4.3 let it through. So what may be
//! made is listed here, and whatever else a kernel knows is refused. io_uring is refused as well, because it makes sockets
//! without the system call that a filter sees.
//!
//! Another ABI of the same kernel is another way to the same call: x32 by a bit in the number, 32-bit programs by numbers
//! of their own, of which `socketcall` takes its arguments from memory, where no filter can look.

use nix::libc::{self, sock_filter, sock_fprog};
use std::io;

/// What the engine's own network namespace holds, sockets that are files or nameless, and questions to the kernel about
/// that namespace.
const FAMILIES: [libc::c_int; 4] = [libc::AF_UNIX, libc::AF_INET, libc::AF_INET6, libc::AF_NETLINK];

/// The system calls of one ABI.
struct Abi {
    /// `AUDIT_ARCH_…`
    arch: u32,
    /// Bits of a number that say no more than which ABI of this architecture it is of.
    ignored: u32,
    /// Their first argument is a family.
    by_family: &'static [u32],
    /// Answered as by a kernel that has them not.
    refused: &'static [u32],
}

#[cfg(target_arch = "x86_64")]
const ABIS: [Abi; 2] = [
    Abi {
        arch: 0xc000_003e,
        // x32
        ignored: 0x4000_0000,
        by_family: &[libc::SYS_socket as u32, libc::SYS_socketpair as u32],
        refused: &[libc::SYS_io_uring_setup as u32],
    },
    Abi {
        arch: 0x4000_0003,
        ignored: 0,
        by_family: &[359, 360],
        // socketcall, io_uring_setup
        refused: &[102, 425],
    },
];

#[cfg(target_arch = "aarch64")]
const ABIS: [Abi; 2] = [
    Abi {
        arch: 0xc000_00b7,
        ignored: 0,
        by_family: &[libc::SYS_socket as u32, libc::SYS_socketpair as u32],
        refused: &[libc::SYS_io_uring_setup as u32],
    },
    Abi {
        arch: 0x4000_0028,
        ignored: 0,
        by_family: &[281, 288],
        refused: &[102, 425],
    },
];

/// Offsets in `struct seccomp_data`. The low half of the first argument: a family is an `int`.
const NUMBER: u32 = 0;
const ARCH: u32 = 4;
const FIRST_ARGUMENT: u32 = if cfg!(target_endian = "little") { 16 } else { 20 };

/// Whether this guest restricts what it starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sockets {
    Restricted,
    /// For a guest that shares its process with others: a test's.
    #[cfg(test)]
    AsTheyAre,
}

impl Sockets {
    /// See [`restrict`].
    pub fn apply(self) -> io::Result<()> {
        match self {
            Self::Restricted => restrict(),
            #[cfg(test)]
            Self::AsTheyAre => Ok(()),
        }
    }
}

/// Restricts this thread and whatever it starts from now on. To be called by the guest's only thread, before the first
/// spawn, and after the engine's filter was read back: the kernel tells only that there is one.
///
/// # Errors
///
/// Where the kernel takes no filter. Nothing may be started then.
fn restrict() -> io::Result<()> {
    // The engine has set it already (the proof asks for it); without it the kernel takes no filter from such a process.
    nix::sys::prctl::set_no_new_privs()?;
    install(&program())
}

#[expect(unsafe_code, reason = "nix has no wrapper for seccomp")]
fn install(program: &[sock_filter]) -> io::Result<()> {
    let program = sock_fprog {
        len: u16::try_from(program.len()).map_err(io::Error::other)?,
        filter: program.as_ptr().cast_mut(),
    };
    // SAFETY: `program` and what it points to outlive the call, which copies them and writes to neither.
    let result = unsafe { libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const program) };
    match result {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Straight down, an ABI after the other; each jump skips the block behind it. Another architecture than these has no
/// system call that succeeds.
fn program() -> Vec<sock_filter> {
    let mut program = vec![load(ARCH)];
    for abi in &ABIS {
        program.extend(if_equal(abi.arch, &calls(abi)));
    }
    program.push(refuse(libc::ENOSYS));
    program
}

fn calls(abi: &Abi) -> Vec<sock_filter> {
    let mut family: Vec<sock_filter> = vec![load(FIRST_ARGUMENT)];
    for allowed in FAMILIES {
        family.extend(if_equal(allowed.cast_unsigned(), &[allow()]));
    }
    family.push(refuse(libc::EAFNOSUPPORT));

    let mut calls = vec![load(NUMBER), and(!abi.ignored)];
    for number in abi.by_family {
        calls.extend(if_equal(*number, &family));
    }
    for number in abi.refused {
        calls.extend(if_equal(*number, &[refuse(libc::ENOSYS)]));
    }
    calls.push(allow());
    calls
}

fn instruction(code: u32, operand: u32) -> sock_filter {
    sock_filter {
        code: code as u16,
        jt: 0,
        jf: 0,
        k: operand,
    }
}

fn load(offset: u32) -> sock_filter {
    instruction(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, offset)
}

fn and(mask: u32) -> sock_filter {
    instruction(libc::BPF_ALU | libc::BPF_AND | libc::BPF_K, mask)
}

fn allow() -> sock_filter {
    instruction(libc::BPF_RET | libc::BPF_K, libc::SECCOMP_RET_ALLOW)
}

fn refuse(error: libc::c_int) -> sock_filter {
    let error = error.cast_unsigned() & libc::SECCOMP_RET_DATA;
    instruction(libc::BPF_RET | libc::BPF_K, libc::SECCOMP_RET_ERRNO | error)
}

/// `block` where the loaded value is this one. A block ends by itself.
fn if_equal(value: u32, block: &[sock_filter]) -> Vec<sock_filter> {
    let mut check = instruction(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, value);
    // The longest block is one ABI's, some forty instructions.
    check.jf = block.len() as u8;
    [&[check], block].concat()
}

#[cfg(test)]
#[expect(unsafe_code, reason = "nix makes sockets of the families it knows only")]
mod tests {
    use super::*;

    fn socket(family: libc::c_int, kind: libc::c_int) -> Result<(), i32> {
        // SAFETY: no pointers; what it returns is closed or an error.
        match unsafe { libc::socket(family, kind, 0) } {
            -1 => Err(io::Error::last_os_error().raw_os_error().unwrap()),
            descriptor => {
                // SAFETY: nobody else has this descriptor.
                unsafe { libc::close(descriptor) };
                Ok(())
            }
        }
    }

    #[test]
    fn only_what_a_network_namespace_holds_can_be_made() {
        // A filter is a thread's, and for good.
        std::thread::spawn(|| {
            restrict().unwrap();
            for family in FAMILIES {
                let kind = if family == libc::AF_NETLINK {
                    libc::SOCK_RAW
                } else {
                    libc::SOCK_STREAM
                };
                assert_eq!(socket(family, kind), Ok(()), "family {family}");
            }
            for family in (0..64).filter(|family| !FAMILIES.contains(family)) {
                assert_eq!(
                    socket(family, libc::SOCK_STREAM),
                    Err(libc::EAFNOSUPPORT),
                    "family {family}"
                );
            }
            let mut pair = [0; 2];
            // SAFETY: `pair` has room for two descriptors.
            let made = unsafe { libc::socketpair(libc::AF_VSOCK, libc::SOCK_STREAM, 0, pair.as_mut_ptr()) };
            assert_eq!(
                (made, io::Error::last_os_error().raw_os_error()),
                (-1, Some(libc::EAFNOSUPPORT))
            );
            // SAFETY: refused before it looks at its arguments.
            let made = unsafe { libc::syscall(libc::SYS_io_uring_setup, 1, std::ptr::null::<u8>()) };
            assert_eq!(
                (made, io::Error::last_os_error().raw_os_error()),
                (-1, Some(libc::ENOSYS))
            );
        })
        .join()
        .unwrap();
    }

    #[cfg(target_arch = "x86_64")]
    #[test]
    fn the_x32_numbers_are_no_way_around() {
        std::thread::spawn(|| {
            restrict().unwrap();
            // SAFETY: no pointers.
            let made = unsafe { libc::syscall(libc::SYS_socket | 0x4000_0000, libc::AF_VSOCK, libc::SOCK_STREAM, 0) };
            // A kernel without x32 says ENOSYS, and only where the filter let it ask.
            assert_eq!(
                (made, io::Error::last_os_error().raw_os_error()),
                (-1, Some(libc::EAFNOSUPPORT))
            );
        })
        .join()
        .unwrap();
    }

    #[test]
    fn no_jump_is_longer_than_a_jump_can_be() {
        assert!(program().len() < usize::from(u8::MAX));
    }
}
