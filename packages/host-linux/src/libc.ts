/** The system calls of a VMM, as the C library has them: each gives what the kernel gives, a value >= 0 or a negated errno. */
import { type CFunction, type Koffi, loadKoffi } from './koffi.js';
import type { PollingCalls } from './poller.js';

export type SystemCall = keyof typeof PROTOTYPES;
export type Parameter = number | bigint | Uint8Array | null;

/** Of mmap. */
export const PROT_READ_WRITE = 3;
export const MAP = { SHARED: 1, PRIVATE: 2, FIXED: 0x10, ANONYMOUS: 0x20, NORESERVE: 0x4000 } as const;

const EFD_NONBLOCK_CLOEXEC = 0o2004000;
/** What mmap gives for nothing. */
const FAILED = -1;

export class LinuxLibc implements PollingCalls {
  readonly #koffi: Koffi;
  readonly #calls: Readonly<Record<SystemCall, CFunction>>;

  /** @throws ConfigError at `path`, about the `purpose`, if koffi is not there, or this is no 64-bit Linux. */
  constructor(path: string, purpose: string) {
    this.#koffi = loadKoffi(path, purpose);
    const library = this.#koffi.load('libc.so.6');
    const calls = Object.entries(PROTOTYPES).map(([name, prototype]) => [name, library.func(prototype)]);
    this.#calls = Object.fromEntries(calls) as Record<SystemCall, CFunction>;
  }

  /** Addresses, too, come as numbers: those of processes are below 2^47 or, with five levels, 2^56, which mmap gives only to who asks. */
  call(name: SystemCall, ...parameters: readonly Parameter[]): number {
    const result = Number(this.#calls[name](...parameters));
    return result === FAILED ? -this.#koffi.errno() : result;
  }

  poll(pollfds: Uint8Array, count: number, milliseconds: number, done: () => void): void {
    this.#calls.poll.async(pollfds, count, milliseconds, () => done());
  }

  eventfd(): number {
    return this.call('eventfd', 0, EFD_NONBLOCK_CLOEXEC);
  }

  close(fd: number): number {
    return this.call('close', fd);
  }

  /** The bytes at an address of this process. Whoever looks there when they are unmapped is killed. */
  view(address: number, length: number): ArrayBuffer {
    return this.#koffi.view(BigInt(address), length);
  }
}

/** Two for ioctl: its argument is a pointer or an integer. Buffers are those of JavaScript; they stay where they are during the call. */
const PROTOTYPES = {
  open: 'int open(const char *, int)',
  close: 'int close(int)',
  ioctl: 'int ioctl(int, unsigned long, void *)',
  ioctl_integer: 'int ioctl(int, unsigned long, uint64_t)',
  pread: 'int64_t pread(int, void *, uint64_t, int64_t)',
  pwrite: 'int64_t pwrite(int, const void *, uint64_t, int64_t)',
  read: 'int64_t read(int, void *, uint64_t)',
  write: 'int64_t write(int, const void *, uint64_t)',
  mmap: 'int64_t mmap(int64_t, uint64_t, int, int, int, int64_t)',
  munmap: 'int munmap(int64_t, uint64_t)',
  eventfd: 'int eventfd(unsigned int, int)',
  poll: 'int poll(void *, unsigned long, int)',
} as const;
