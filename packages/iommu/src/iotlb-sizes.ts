/**
 * The page sizes that an IOTLB holds entries of, in the order in which they appeared: a lookup probes these and no others.
 * A size's place in the list is its code in an entry.
 */
const MAX_SIZES = 16;

export class PageSizes {
  count = 0;
  /** log2 bytes, by code. */
  readonly shift = new Int32Array(MAX_SIZES);
  /** What of an address names the page, by code. */
  readonly maskHi = new Int32Array(MAX_SIZES);
  readonly maskLo = new Int32Array(MAX_SIZES);

  get full(): boolean {
    return this.count === MAX_SIZES;
  }

  /** -1 if no page of `1 << shift` bytes was cached yet. */
  codeOf(shift: number): number {
    for (let code = 0; code < this.count; code++) if (this.shift[code] === shift) return code;
    return -1;
  }

  add(shift: number): number {
    const code = this.count++;
    this.shift[code] = shift;
    this.maskHi[code] = shift >= 64 ? 0 : shift >= 32 ? -1 << (shift - 32) : -1;
    this.maskLo[code] = shift >= 32 ? 0 : -1 << shift;
    return code;
  }

  clear(): void {
    this.count = 0;
  }

  /** How many pages of all sizes in use overlap an aligned range of `1 << shift` bytes. */
  probes(shift: number): number {
    let sum = 0;
    for (let code = 0; code < this.count; code++)
      sum += shift > this.shift[code]! ? 2 ** (shift - this.shift[code]!) : 1;
    return sum;
  }
}
