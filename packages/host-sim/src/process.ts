/** A process on the simulated host: descriptors and memory of its own, and the system calls of a VMM. */
import type { Hva } from '@remora/bits';
import { Errno, PAGE_BYTES, trackDisposable, untrackDisposable } from '@remora/core';
import type { HostSyscalls, IoctlArgument, MappedMemory } from '@remora/host';
import { EventFd } from './files/eventfd.js';
import type { HostFile } from './files/host-file.js';
import { MemFd } from './files/memfd.js';
import { openPath, readDirectory, readLink } from './kernel/paths.js';
import type { Kernel } from './kernel/kernel.js';
import type { ProcessMemory } from './memory/process-memory.js';

/** After standard input, output and error. */
const FIRST_FD = 3;

/** How many descriptors stand for an open file: processes can give theirs to others. */
const descriptors = new WeakMap<HostFile, number>();

/** Who a process is. */
export interface ProcessIdentity {
  readonly name: string;
  /** Whose process it is. */
  readonly user: string;
  /** Whether it may do what only root may. */
  readonly privileged: boolean;
}

export class HostProcess implements HostSyscalls, Disposable {
  readonly name: string;
  readonly user: string;
  readonly privileged: boolean;
  readonly memory: ProcessMemory;
  readonly #kernel: Kernel;
  readonly #files = new Map<number, HostFile>();
  readonly #exited: () => void;
  #alive = true;

  /** Made by SimulatedHost.process. */
  constructor(kernel: Kernel, { name, user, privileged }: ProcessIdentity, memory: ProcessMemory, exited: () => void) {
    this.#kernel = kernel;
    this.name = name;
    this.user = user;
    this.privileged = privileged;
    this.memory = memory;
    this.#exited = exited;
    trackDisposable(this, `process ${name}`);
  }

  open(path: string): number {
    const file = openPath(this.#kernel, this, path);
    return typeof file === 'number' ? file : this.addFile(file);
  }

  readlink(path: string): string | number {
    return readLink(this.#kernel, path);
  }

  readdir(path: string): readonly string[] | number {
    return readDirectory(this.#kernel, path);
  }

  close(fd: number): number {
    const file = this.#files.get(fd);
    if (file === undefined) return -Errno.EBADF;
    this.#files.delete(fd);
    const left = descriptors.get(file)! - 1;
    descriptors.set(file, left);
    if (left === 0) file.release();
    return 0;
  }

  ioctl(fd: number, request: number, argument?: IoctlArgument): number {
    const file = this.#files.get(fd);
    return file === undefined ? -Errno.EBADF : (file.ioctl?.(request, argument, this) ?? -Errno.ENOTTY);
  }

  pread(fd: number, buffer: Uint8Array, offset: number): number {
    const file = this.#files.get(fd);
    return file === undefined ? -Errno.EBADF : (file.pread?.(buffer, offset) ?? withoutPositions(file));
  }

  pwrite(fd: number, buffer: Uint8Array, offset: number): number {
    const file = this.#files.get(fd);
    return file === undefined ? -Errno.EBADF : (file.pwrite?.(buffer, offset) ?? withoutPositions(file));
  }

  /** Of a file that has positions, it is a read of its beginning: nobody here reads those one piece after the other. */
  read(fd: number, buffer: Uint8Array): number {
    const file = this.#files.get(fd);
    if (file === undefined) return -Errno.EBADF;
    return file.read?.(buffer) ?? file.pread?.(buffer, 0) ?? -Errno.EINVAL;
  }

  write(fd: number, buffer: Uint8Array): number {
    const file = this.#files.get(fd);
    if (file === undefined) return -Errno.EBADF;
    return file.write?.(buffer) ?? file.pwrite?.(buffer, 0) ?? -Errno.EINVAL;
  }

  mmap(length: number): MappedMemory | number {
    return this.memory.map(length);
  }

  munmap(address: Hva, length: number): number {
    return this.memory.unmap(address, length);
  }

  eventfd(): number {
    return this.addFile(new EventFd());
  }

  /** @throws Error if `fd` never becomes readable: an event loop that waits for nothing is a mistake in our own code. */
  onReadable(fd: number, ready: () => void): Disposable {
    const registration = this.#files.get(fd)?.onReadable?.(ready);
    if (registration === undefined) throw new Error(`fd ${fd} of ${this.name} is nothing that could be waited for`);
    return registration;
  }

  /** The open file behind a descriptor; for the kernel. */
  file(fd: number): HostFile | undefined {
    return this.#files.get(fd);
  }

  /** Gives `file` the lowest free descriptor, or closes it: -EMFILE if there can be none; for the kernel. */
  addFile(file: HostFile): number {
    const failed = this.#kernel.fails('file descriptor');
    if (failed !== 0) {
      if (!descriptors.has(file)) file.release();
      return failed;
    }
    let fd = FIRST_FD;
    while (this.#files.has(fd)) fd++;
    this.#files.set(fd, file);
    descriptors.set(file, (descriptors.get(file) ?? 0) + 1);
    return fd;
  }

  /** memfd_create(2) and ftruncate(2): a descriptor of `length` zeroed bytes; -EINVAL unless those are whole pages, -ENOMEM. */
  memfd(length: number): number {
    const frames = this.memory.takeFrames(length);
    return typeof frames === 'number' ? frames : this.addFile(new MemFd(this.#kernel.frames, frames));
  }

  /** mmap(2), shared, of a file of memfd: whole pages from byte `offset` on. -EBADF, -ENODEV for other files, -EINVAL for what it does not have. */
  mmapFile(fd: number, offset: number, length: number): MappedMemory | number {
    const file = this.#files.get(fd);
    if (file === undefined) return -Errno.EBADF;
    if (!(file instanceof MemFd)) return -Errno.ENODEV;
    const [first, pages] = [offset / PAGE_BYTES, length / PAGE_BYTES];
    if (!Number.isSafeInteger(first) || first < 0 || !Number.isSafeInteger(pages) || pages <= 0) return -Errno.EINVAL;
    const frames = file.framesAt(first, pages);
    if (frames === undefined) return -Errno.EINVAL;
    this.#kernel.frames.holdAll(frames);
    return this.memory.mapFrames(frames);
  }

  /** Gives the open file behind `fd` to another process, as over a socket (SCM_RIGHTS): the descriptor that it has there, or -EBADF. */
  send(fd: number, to: HostProcess): number {
    const file = this.#files.get(fd);
    return file === undefined ? -Errno.EBADF : to.addFile(file);
  }

  state(): unknown {
    const files = [...this.#files].sort(([a], [b]) => a - b);
    return {
      files: files.map(([fd, file]) => ({ fd, kind: file.kind, state: file.state() })),
      mappings: this.memory.state(),
    };
  }

  /** The process ends, however it ends: every descriptor is closed, all memory unmapped. */
  [Symbol.dispose](): void {
    if (!this.#alive) return;
    this.#alive = false;
    for (const fd of [...this.#files.keys()].sort((a, b) => b - a)) this.close(fd);
    this.memory.clear();
    this.#exited();
    untrackDisposable(this);
  }
}

/** What a read or write somewhere in the file answers, of a file that has no such thing. */
function withoutPositions(file: HostFile): number {
  return file.read === undefined ? -Errno.EINVAL : -Errno.ESPIPE;
}
