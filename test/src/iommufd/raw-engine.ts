import type { HostSyscalls } from '@remora/host';
import { EngineDriver } from '@remora/machines';
import { viewOf } from '@remora/uapi';

const CONFIG_REGION = 7 * 2 ** 40;
const COMMAND = 4;
const MEMORY_AND_MASTER = Uint8Array.of(6, 0);

/** A lent dma-engine, driven through its VFIO descriptor: BAR 0 is the region at its beginning. */
export class RawEngine extends EngineDriver {
  readonly #syscalls: HostSyscalls;
  readonly #fd: number;
  readonly #dword = new Uint8Array(4);

  constructor(syscalls: HostSyscalls, fd: number) {
    super();
    this.#syscalls = syscalls;
    this.#fd = fd;
    syscalls.pwrite(fd, MEMORY_AND_MASTER, CONFIG_REGION + COMMAND);
  }

  override read(offset: number): number {
    const read = this.#syscalls.pread(this.#fd, this.#dword, offset);
    return read === this.#dword.length ? viewOf(this.#dword).getUint32(0, true) : 0xffff_ffff;
  }

  override write(offset: number, value: number): void {
    viewOf(this.#dword).setUint32(0, value, true);
    this.#syscalls.pwrite(this.#fd, this.#dword, offset);
  }
}
