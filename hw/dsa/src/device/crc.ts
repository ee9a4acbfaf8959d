/** The CRC of CRC Generation and Copy with CRC (DSA 8.3.11): polynomial 0x11EDC6F41, known as CRC-32C. */

const POLYNOMIAL = 0x1edc_6f41;
const TABLE = Int32Array.from({ length: 256 }, (_, byte) => {
  let value = byte << 24;
  for (let i = 0; i < 8; i++) value = value < 0 ? (value << 1) ^ POLYNOMIAL : value << 1;
  return value;
});
const REFLECTED = Uint8Array.from({ length: 256 }, (_, byte) => reflect(byte) >>> 24);

/** The 32 bits in the opposite order. */
function reflect(value: number): number {
  let out = 0;
  for (let i = 0; i < 32; i++) out |= ((value >>> i) & 1) << (31 - i);
  return out;
}

/** The register's value to begin with. `plain`: the seed is neither inverted nor reflected. */
export function crcBegin(seed: number, plain: boolean): number {
  return plain ? seed : ~reflect(seed);
}

/** Takes the first `count` of `bytes`; `plain`: their bits are not reflected. */
export function crcUpdate(crc: number, bytes: Uint8Array, count: number, plain: boolean): number {
  for (let i = 0; i < count; i++) {
    const byte = plain ? bytes[i]! : REFLECTED[bytes[i]!]!;
    crc = (crc << 8) ^ TABLE[((crc >>> 24) ^ byte) & 0xff]!;
  }
  return crc;
}

/** What the completion record shows. */
export function crcEnd(crc: number, plain: boolean): number {
  return plain ? crc : ~reflect(crc);
}
