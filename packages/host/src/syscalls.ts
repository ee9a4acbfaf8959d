/**
 * HostSyscalls: the system calls that a VMM process makes, on byte buffers, exactly as Linux would be handed them. Whoever
 * implements this is a host: the simulated kernel, a recorder in front of it, or Linux itself.
 *
 * Results follow the kernel: a value >= 0, or a negated errno. Nothing throws for what a caller asks.
 */
import type { Hva } from '@remora/bits';
import type { Ram } from '@remora/core';

/** Process memory obtained by mmap: an address for the kernel's structures, and the bytes behind it. */
export interface MappedMemory {
  readonly address: Hva;
  readonly ram: Ram;
}

/** The argument of an ioctl: a structure's bytes (which the kernel may write back into), an integer, or none. */
export type IoctlArgument = Uint8Array | number | undefined;

export interface HostSyscalls {
  open(path: string): number;
  /** readlink(2): what the symbolic link at `path` says, or -errno. */
  readlink(path: string): string | number;
  /** What opendir(3) and readdir(3) list in the directory at `path`, without `.` and `..`; or -errno. */
  readdir(path: string): readonly string[] | number;
  close(fd: number): number;
  ioctl(fd: number, request: number, argument?: IoctlArgument): number;
  /** pread(2). Returns the count of bytes. */
  pread(fd: number, buffer: Uint8Array, offset: number): number;
  /** pwrite(2). Returns the count of bytes. */
  pwrite(fd: number, buffer: Uint8Array, offset: number): number;
  /** read(2), of a file without positions: an eventfd, a queue of faults. pread of such is -ESPIPE on Linux. Returns the count of bytes. */
  read(fd: number, buffer: Uint8Array): number;
  /** write(2), to a file without positions. Returns the count of bytes. */
  write(fd: number, buffer: Uint8Array): number;
  /** Anonymous shared memory of `length` bytes (a multiple of 4096), zero-filled; or -errno. */
  mmap(length: number): MappedMemory | number;
  munmap(address: Hva, length: number): number;
  /** eventfd(2), count 0. */
  eventfd(): number;
  /** Calls `ready` whenever `fd` becomes readable, as a VMM's event loop would; the fd is read by the callee. */
  onReadable(fd: number, ready: () => void): Disposable;
}
