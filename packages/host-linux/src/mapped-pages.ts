/**
 * Memory of this process that the kernel's structures name by its address. Buffers of JavaScript look into it, and nothing takes them back: what is
 * unmapped is replaced by empty pages, which cost nothing, and the addresses are free when the last buffer is gone.
 */
import { type Hva, hva } from '@remora/bits';
import { Errno, PAGE_BYTES, Ram } from '@remora/core';
import type { MappedMemory } from '@remora/host';
import { type LinuxLibc, MAP, PROT_READ_WRITE } from './libc.js';

/** What one mmap made. */
interface Mapping {
  readonly address: number;
  readonly length: number;
  /** Buffers that look into it. */
  buffers: number;
  unmapped: boolean;
}

export class MappedPages {
  readonly #libc: LinuxLibc;
  readonly #live = new Map<number, Mapping>();
  readonly #unseen = new FinalizationRegistry<Mapping>(mapping => this.#bufferGone(mapping));

  constructor(libc: LinuxLibc) {
    this.#libc = libc;
  }

  /** Zeroed and shared; -EINVAL unless `length` is a positive multiple of 4096. */
  map(length: number): MappedMemory | number {
    if (!Number.isSafeInteger(length) || length <= 0 || length % PAGE_BYTES !== 0) return -Errno.EINVAL;
    const address = this.#libc.call('mmap', 0, length, PROT_READ_WRITE, MAP.SHARED | MAP.ANONYMOUS, -1, 0);
    if (address < 0) return address;
    const mapping = { address, length, buffers: 0, unmapped: false };
    this.#live.set(address, mapping);
    const ram = Ram.over(length, (offset, bytes) => {
      const buffer = this.#libc.view(address + offset, bytes);
      this.#unseen.register(buffer, mapping);
      mapping.buffers++;
      return buffer;
    });
    return { address: hva(address), ram };
  }

  /** A whole mapping, or pages of one. */
  unmap(address: Hva, length: number): number {
    const inside = [...this.#live.values()].find(
      each => each.address <= address && address + length <= each.address + each.length,
    );
    // Nothing is mapped there, or others did it: it is not ours to take, and munmap calls that a success.
    if (inside === undefined) return address % PAGE_BYTES === 0 && length > 0 ? 0 : -Errno.EINVAL;
    const flags = MAP.PRIVATE | MAP.ANONYMOUS | MAP.FIXED | MAP.NORESERVE;
    const result = this.#libc.call('mmap', address, length, PROT_READ_WRITE, flags, -1, 0);
    if (result < 0) return result;
    if (length === inside.length) {
      this.#live.delete(inside.address);
      inside.unmapped = true;
    }
    return 0;
  }

  #bufferGone(mapping: Mapping): void {
    mapping.buffers--;
    if (mapping.buffers === 0 && mapping.unmapped) this.#libc.call('munmap', mapping.address, mapping.length);
  }
}
