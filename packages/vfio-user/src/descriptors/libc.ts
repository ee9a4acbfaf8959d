/** The system calls that Node has not: sockets that pass descriptors, poll, eventfd. Structures are those of 64-bit Linux. */
import { ConfigError } from '@remora/core';
import { type CFunction, type Koffi, loadKoffi } from '@remora/host-linux';
import { viewOf } from '@remora/uapi';

const AF_UNIX = 1;
const SOCK_STREAM = 1;
const SOL_SOCKET = 1;
const SCM_RIGHTS = 1;
const O_NONBLOCK = 0o4000;
const O_CLOEXEC = 0o2000000;
/** SOCK_NONBLOCK | SOCK_CLOEXEC; EFD_ flags are the same. */
const OPEN_FLAGS = O_NONBLOCK | O_CLOEXEC;
const MSG_CTRUNC = 0x8;
const MSG_DONTWAIT = 0x40;
const MSG_NOSIGNAL = 0x4000;
const MSG_CMSG_CLOEXEC = 0x4000_0000;
const F_GETFL = 3;
const F_GET_SEALS = 1034;
const F_SEAL_SHRINK = 2;
const PROT_READ = 1;
const PROT_WRITE = 2;
const MAP_SHARED = 1;
/** What mmap gives for nothing. */
const MAP_FAILED = 2n ** 64n - 1n;
const F_SETFL = 4;
const SHUT_WR = 1;
const BACKLOG = 8;
const ADDRESS_BYTES = 110;
/** struct msghdr, with its one iovec after it. */
const MSGHDR_BYTES = 56;
const MSGHDR = { IOV: 16, IOVLEN: 24, CONTROL: 32, CONTROLLEN: 40, FLAGS: 48 } as const;
const IOVEC_BYTES = 16;
/** struct cmsghdr; its data follow. */
const CMSGHDR_BYTES = 16;

/** Descriptors that are taken with one message; the kernel closes what is beyond. */
export const MAX_MSG_FDS = 16;
const CONTROL_BYTES = CMSGHDR_BYTES + 4 * MAX_MSG_FDS;
const CHUNK_BYTES = 0x1_0000;

/** A system call failed. */
export class SystemCallError extends Error {
  override readonly name = 'SystemCallError';
  /** Linux error number. */
  readonly errno: number;

  constructor(call: string, errno: number) {
    super(`${call} failed with errno ${errno}`);
    this.errno = errno;
  }
}

/** What one receive brought. */
export interface Received {
  /** Valid until the next receive. */
  readonly bytes: Uint8Array;
  /** The caller closes them. */
  readonly descriptors: readonly number[];
  /** There were more, which are gone. */
  readonly truncated: boolean;
}

/** A file in memory, until it is unmapped: nobody may look there afterwards. */
export interface Mapping {
  readonly memory: ArrayBuffer;
  readonly unmap: () => void;
}

export class Libc {
  readonly #koffi: Koffi;
  readonly #calls: Readonly<Record<CallName, CFunction>>;
  readonly #chunk = bytes(CHUNK_BYTES);
  readonly #control = bytes(CONTROL_BYTES);
  readonly #message = bytes(MSGHDR_BYTES + IOVEC_BYTES);
  readonly #view = viewOf(this.#message);

  /** @throws ConfigError at `path`, about the `purpose`, if koffi is not there. */
  constructor(path: string, purpose: string) {
    this.#koffi = loadKoffi(path, purpose);
    const library = this.#koffi.load('libc.so.6');
    const calls = Object.entries(PROTOTYPES).map(([name, prototype]) => [name, library.func(prototype)]);
    this.#calls = Object.fromEntries(calls) as Record<CallName, CFunction>;
    const { address } = this.#koffi;
    const message = this.#view;
    message.setBigUint64(MSGHDR.IOV, address(this.#message) + BigInt(MSGHDR_BYTES), true);
    message.setBigUint64(MSGHDR.IOVLEN, 1n, true);
    message.setBigUint64(MSGHDR.CONTROL, address(this.#control), true);
    message.setBigUint64(MSGHDR_BYTES, address(this.#chunk), true);
  }

  /** A socket that listens at `path`, and never waits. @throws ConfigError if that cannot be. */
  listen(path: string): number {
    const fd = this.#check('socket', this.#calls.socket(AF_UNIX, SOCK_STREAM | OPEN_FLAGS, 0));
    try {
      this.#check('bind', this.#calls.bind(fd, socketAddress(path), ADDRESS_BYTES));
      this.#check('listen', this.#calls.listen(fd, BACKLOG));
      return fd;
    } catch (cause) {
      this.close(fd);
      throw new ConfigError('socket', `${path}: ${(cause as Error).message}`, { cause });
    }
  }

  /** The next client's socket, which never waits; undefined if there is none. @throws SystemCallError */
  accept(listening: number): number | undefined {
    return this.#nowOrLater('accept4', this.#calls.accept4(listening, null, null, OPEN_FLAGS));
  }

  /** A socket connected to `path`, which never waits. @throws SystemCallError */
  connect(path: string): number {
    const fd = this.#check('socket', this.#calls.socket(AF_UNIX, SOCK_STREAM | OPEN_FLAGS, 0));
    try {
      this.#check('connect', this.#calls.connect(fd, socketAddress(path), ADDRESS_BYTES));
      return fd;
    } catch (failure) {
      this.close(fd);
      throw failure;
    }
  }

  /** Up to `length` bytes, none at the end of the stream; undefined if there are none yet. @throws SystemCallError */
  receive(fd: number, length: number): Received | undefined {
    const message = this.#view;
    // Lengths have their upper halves clear.
    message.setUint32(MSGHDR_BYTES + 8, Math.min(length, CHUNK_BYTES), true);
    message.setUint32(MSGHDR.CONTROLLEN, CONTROL_BYTES, true);
    message.setInt32(MSGHDR.FLAGS, 0, true);
    const got = this.#nowOrLater('recvmsg', this.#calls.recvmsg(fd, this.#message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC));
    if (got === undefined) return undefined;
    const control = message.getUint32(MSGHDR.CONTROLLEN, true);
    return {
      bytes: this.#chunk.subarray(0, got),
      descriptors: control === 0 ? NONE : passedIn(viewOf(this.#control), control),
      truncated: (message.getInt32(MSGHDR.FLAGS, true) & MSG_CTRUNC) !== 0,
    };
  }

  /** Sends what the socket takes now, with all `descriptors`. Returns how many bytes that were. @throws SystemCallError */
  send(fd: number, data: Uint8Array, descriptors: readonly number[] = NONE): number {
    const flags = MSG_DONTWAIT | MSG_NOSIGNAL;
    if (descriptors.length === 0) return this.#nowOrLater('send', this.#calls.send(fd, data, data.length, flags)) ?? 0;
    const control = bytes(CMSGHDR_BYTES + ((descriptors.length * 4 + 7) & ~7));
    const header = viewOf(control);
    header.setBigUint64(0, BigInt(CMSGHDR_BYTES + 4 * descriptors.length), true);
    header.setInt32(8, SOL_SOCKET, true);
    header.setInt32(12, SCM_RIGHTS, true);
    descriptors.forEach((each, index) => header.setInt32(CMSGHDR_BYTES + 4 * index, each, true));
    const body = bytes(data.length);
    body.set(data);
    const block = bytes(MSGHDR_BYTES + IOVEC_BYTES);
    const message = viewOf(block);
    message.setBigUint64(MSGHDR.IOV, this.#koffi.address(block) + BigInt(MSGHDR_BYTES), true);
    message.setBigUint64(MSGHDR.IOVLEN, 1n, true);
    message.setBigUint64(MSGHDR_BYTES, this.#koffi.address(body), true);
    message.setBigUint64(MSGHDR_BYTES + 8, BigInt(body.length), true);
    message.setBigUint64(MSGHDR.CONTROL, this.#koffi.address(control), true);
    message.setBigUint64(MSGHDR.CONTROLLEN, BigInt(control.length), true);
    return this.#nowOrLater('sendmsg', this.#calls.sendmsg(fd, block, flags)) ?? 0;
  }

  /** Nothing more will be sent. */
  shutdown(fd: number): void {
    this.#calls.shutdown(fd, SHUT_WR);
  }

  /** Calls `done` when one of the `count` pollfd structures has something to say, or after `milliseconds` unless they are -1. */
  poll(pollfds: Uint8Array, count: number, milliseconds: number, done: () => void): void {
    this.#calls.poll.async(pollfds, count, milliseconds, () => done());
  }

  /** An event descriptor that never waits. @throws SystemCallError */
  eventfd(): number {
    return this.#check('eventfd', this.#calls.eventfd(0, OPEN_FLAGS));
  }

  /** O_ flags with which `fd` was opened. @throws SystemCallError */
  flags(fd: number): number {
    return this.#check('fcntl', this.#calls.fcntl(fd, F_GETFL, 0));
  }

  /** From now on nobody waits who reads or writes what `fd` stands for. @throws SystemCallError */
  neverWaits(fd: number): void {
    const flags = this.flags(fd);
    if ((flags & O_NONBLOCK) === 0) this.#check('fcntl', this.#calls.fcntl(fd, F_SETFL, flags | O_NONBLOCK));
  }

  /** Whether a file can never become shorter: it is a memfd with that seal. */
  neverShrinks(fd: number): boolean {
    const seals = this.#calls.fcntl(fd, F_GET_SEALS, 0);
    return seals >= 0 && (seals & F_SEAL_SHRINK) !== 0;
  }

  /** The first `length` bytes of a file; undefined if they cannot be mapped. */
  map(fd: number, length: number, writable: boolean): Mapping | undefined {
    const protection = PROT_READ | (writable ? PROT_WRITE : 0);
    const address = BigInt.asUintN(64, BigInt(this.#calls.mmap(0, length, protection, MAP_SHARED, fd, 0)));
    if (address === MAP_FAILED) return undefined;
    return { memory: this.#koffi.view(address, length), unmap: () => void this.#calls.munmap(address, length) };
  }

  /** Node warns of descriptors that are closed by it and were not opened by it. */
  close(fd: number): void {
    this.#calls.close(fd);
  }

  #check(call: string, result: number): number {
    if (result < 0) throw new SystemCallError(call, this.#koffi.errno());
    return result;
  }

  #nowOrLater(call: string, result: number): number | undefined {
    if (result >= 0) return result;
    const errno = this.#koffi.errno();
    if (errno === EAGAIN || errno === EINTR) return undefined;
    throw new SystemCallError(call, errno);
  }
}

const NONE: readonly number[] = [];
const EINTR = 4;
const EAGAIN = 11;

const PROTOTYPES = {
  socket: 'int socket(int, int, int)',
  bind: 'int bind(int, const void *, unsigned int)',
  listen: 'int listen(int, int)',
  accept4: 'int accept4(int, void *, void *, int)',
  connect: 'int connect(int, const void *, unsigned int)',
  recvmsg: 'long recvmsg(int, void *, int)',
  sendmsg: 'long sendmsg(int, const void *, int)',
  send: 'long send(int, const void *, unsigned long, int)',
  shutdown: 'int shutdown(int, int)',
  poll: 'int poll(void *, unsigned long, int)',
  eventfd: 'int eventfd(unsigned int, int)',
  close: 'int close(int)',
  // An address as a number: it may be one that no number of JavaScript's can be.
  mmap: 'int64_t mmap(int64_t, uint64_t, int, int, int, int64_t)',
  munmap: 'int munmap(uint64_t, uint64_t)',
  fcntl: 'int fcntl(int, int, long)',
} as const;
type CallName = keyof typeof PROTOTYPES;

/** In a buffer of its own, which stays where it is. */
function bytes(length: number): Uint8Array {
  return new Uint8Array(new ArrayBuffer(length));
}

/** struct sockaddr_un. The path fits: see checkSocketPath. */
function socketAddress(path: string): Uint8Array {
  const address = bytes(ADDRESS_BYTES);
  viewOf(address).setUint16(0, AF_UNIX, true);
  address.set(new TextEncoder().encode(path).subarray(0, ADDRESS_BYTES - 3), 2);
  return address;
}

/** Descriptors in the control messages of `length` bytes. */
function passedIn(control: DataView, length: number): number[] {
  const found: number[] = [];
  for (let at = 0; at + CMSGHDR_BYTES <= length;) {
    const size = Number(control.getBigUint64(at, true));
    if (size < CMSGHDR_BYTES) break;
    const rights = control.getInt32(at + 8, true) === SOL_SOCKET && control.getInt32(at + 12, true) === SCM_RIGHTS;
    const end = Math.min(at + size, length);
    for (let each = at + CMSGHDR_BYTES; rights && each + 4 <= end; each += 4) found.push(control.getInt32(each, true));
    at += (size + 7) & ~7;
  }
  return found;
}
