/** The files of a guest's memory that one client has passed. It passes the same one with each range: each file is kept once. */
import { fstatSync } from 'node:fs';
import { Errno } from '@remora/core';
import type { DmaMapRequest } from '../dma-maps.js';
import { DmaMapFlag } from '../protocol.js';
import { type GuestFile, SharedFile } from '../shared-file.js';
import { MappedFile } from './mapped-file.js';
import type { DescriptorSystem, PassedDescriptor } from './passed.js';

/** A machine's memory is in a few files. */
const MAX_FILES = 256;
const O_ACCMODE = 3;
const O_RDONLY = 0;
const O_WRONLY = 1;
/** Writes go to the end, wherever they should go. */
const O_APPEND = 0o2000;
/** Stands for a name, and gives no access at all. */
const O_PATH = 0o10000000;

interface Kept {
  readonly name: string;
  readonly file: GuestFile;
  ranges: number;
}

export class PassedFiles {
  readonly #system: DescriptorSystem;
  readonly #report: (text: string) => void;
  readonly #byName = new Map<string, Kept>();
  readonly #byFile = new Map<GuestFile, Kept>();

  constructor(system: DescriptorSystem, report: (text: string) => void) {
    this.#system = system;
    this.#report = report;
  }

  /**
   * The file that a range will be in, until it is released as often as it was taken. A Linux error number: EINVAL if it is no regular file,
   * or ends before the range; EACCES if it was not opened for what the range allows; ENOSPC for too many files.
   */
  take(passed: PassedDescriptor, { offset, size, flags }: Omit<DmaMapRequest, 'backing'>): GuestFile | number {
    const stat = fstatSync(passed.fd, { bigint: true });
    if (!stat.isFile()) return Errno.EINVAL;
    const opened = this.#system.libc.flags(passed.fd);
    const access = opened & O_ACCMODE;
    const mayRead = access !== O_WRONLY;
    const mayWrite = access !== O_RDONLY && (opened & O_APPEND) === 0;
    if ((opened & O_PATH) !== 0) return Errno.EACCES;
    if ((flags & DmaMapFlag.READABLE) !== 0 && !mayRead) return Errno.EACCES;
    if ((flags & DmaMapFlag.WRITEABLE) !== 0 && !mayWrite) return Errno.EACCES;
    if (offset + size > stat.size) {
      this.#report(`memory: the client passed a file of ${stat.size} bytes, and maps up to ${offset + size}`);
      return Errno.EINVAL;
    }
    const name = `${stat.dev}:${stat.ino}:${opened}:${stat.size}`;
    const kept = this.#byName.get(name) ?? this.#keep(name, passed, stat.size, access);
    if (kept === undefined) return Errno.ENOSPC;
    kept.ranges++;
    return kept.file;
  }

  /** A range is no more, which `file` was taken for. */
  release(file: GuestFile): void {
    const kept = this.#byFile.get(file)!;
    if (--kept.ranges > 0) return;
    this.#byFile.delete(file);
    this.#byName.delete(kept.name);
    file[Symbol.dispose]();
  }

  #keep(name: string, passed: PassedDescriptor, size: bigint, access: number): Kept | undefined {
    if (this.#byFile.size >= MAX_FILES) return undefined;
    const mapped =
      access === O_WRONLY ? undefined : MappedFile.open(this.#system.libc, passed, size, access !== O_RDONLY);
    const file = mapped ?? new SharedFile(`descriptor ${name}`, passed.keep());
    const kept = { name, file, ranges: 0 };
    this.#byName.set(name, kept);
    this.#byFile.set(kept.file, kept);
    return kept;
  }
}
