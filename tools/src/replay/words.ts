/** A 64-bit value of a recording: two words, unsigned. */
export interface Words {
  readonly hi: number;
  readonly lo: number;
}

/** Up to 16 hexadecimal digits. */
export function parseWords(digits: string): Words {
  return { hi: digits.length > 8 ? parseInt(digits.slice(0, -8), 16) : 0, lo: parseInt(digits.slice(-8), 16) };
}

/** Without leading zeros and prefix, as recordings have it. */
export function digitsOf(hi: number, lo: number): string {
  const low = (lo >>> 0).toString(16);
  return hi === 0 ? low : (hi >>> 0).toString(16) + low.padStart(8, '0');
}

/** All 16 digits. */
export function allDigitsOf(hi: number, lo: number): string {
  return (hi >>> 0).toString(16).padStart(8, '0') + (lo >>> 0).toString(16).padStart(8, '0');
}
