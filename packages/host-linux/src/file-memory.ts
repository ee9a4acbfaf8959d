/** A file as memory, which others have mapped, too: what one of them writes, the others read. */
import { PAGE_BYTES, Ram } from '@remora/core';
import { LinuxLibc, MAP, PROT_READ_WRITE } from './libc.js';

const O_RDWR_CLOEXEC = 0o2000002;

export class FileMemory implements Disposable {
  readonly ram: Ram;
  readonly #libc: LinuxLibc;
  readonly #address: number;

  /**
   * Maps all of the file at `path`, `bytes` long, which is a multiple of 4096. Nobody may make it shorter: whoever looks beyond its end is
   * killed. @throws ConfigError without koffi, RangeError for another size, Error if the file cannot be mapped.
   */
  constructor(path: string, bytes: number) {
    if (!Number.isSafeInteger(bytes) || bytes <= 0 || bytes % PAGE_BYTES !== 0)
      throw new RangeError(`not a size of memory: ${bytes}`);
    this.#libc = new LinuxLibc('memory', 'a file that is mapped');
    const libc = this.#libc;
    const fd = this.#check('open', path, libc.call('open', new TextEncoder().encode(`${path}\0`), O_RDWR_CLOEXEC));
    const address = libc.call('mmap', 0, bytes, PROT_READ_WRITE, MAP.SHARED, fd, 0);
    libc.close(fd);
    this.#address = this.#check('mmap', path, address);
    this.ram = Ram.over(bytes, (offset, length) => libc.view(this.#address + offset, length));
  }

  /** From now on the memory is nobody else's. Its addresses stay: buffers look there. */
  [Symbol.dispose](): void {
    const flags = MAP.PRIVATE | MAP.ANONYMOUS | MAP.FIXED | MAP.NORESERVE;
    this.#libc.call('mmap', this.#address, this.ram.size, PROT_READ_WRITE, flags, -1, 0);
  }

  #check(call: string, path: string, result: number): number {
    if (result < 0) throw new Error(`${call} of ${path} failed with errno ${-result}`);
    return result;
  }
}
