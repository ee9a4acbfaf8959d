/**
 * A guest of some forty instructions: it reads or writes a register of a PCI device as often as it is told to. A flat 32-bit image by the
 * Multiboot specification 0.6.96 (3.1), which QEMU's -kernel takes.
 *
 * It speaks over COM2. At its start it sends one byte. Then it takes two bytes at a time, the device's number on the root bus, with bit 7 for
 * writes, and log2 of how often; it answers with four, little-endian: of reads, the sum of what they returned; of writes, what
 * the register held after the last.
 */

const LOAD_ADDRESS = 0x10_0000;
const MAGIC = 0x1bad_b002;
/** The header says where the image goes: it needs no file format. */
const HAS_ADDRESSES = 1 << 16;
const HEADER_WORDS = 8;

/** Bit of the first byte. */
export const WRITES = 0x80;

/** Where edu has a constant, and a register that returns the complement of what was written. */
const READ_OFFSET = 0;
const WRITE_OFFSET = 4;

/** What follows the header. Jumps are relative, so it runs wherever it lies. */
const CODE = [
  ...[0xbc, 0x00, 0x00, 0x09, 0x00], //         mov  esp, 0x90000
  ...[0x66, 0xba, 0xf8, 0x02], //               mov  dx, 0x2f8
  ...[0xee], //                                 out  dx, al              2: the low byte of what a loader leaves in EAX
  // main:
  ...[0xe8, 0x50, 0x00, 0x00, 0x00], //         call getc
  ...[0x89, 0xc3], //                           mov  ebx, eax
  ...[0xe8, 0x49, 0x00, 0x00, 0x00], //         call getc
  ...[0x89, 0xc1], //                           mov  ecx, eax
  ...[0xbf, 0x01, 0x00, 0x00, 0x00], //         mov  edi, 1
  ...[0xd3, 0xe7], //                           shl  edi, cl
  ...[0x89, 0xd8], //                           mov  eax, ebx
  ...[0x83, 0xe0, 0x1f], //                     and  eax, 0x1f
  ...[0xc1, 0xe0, 0x0b], //                     shl  eax, 11
  ...[0x0d, 0x10, 0x00, 0x00, 0x80], //         or   eax, 0x80000010    configuration address of BAR 0
  ...[0x66, 0xba, 0xf8, 0x0c], //               mov  dx, 0xcf8
  ...[0xef], //                                 out  dx, eax
  ...[0xb2, 0xfc], //                           mov  dl, 0xfc
  ...[0xed], //                                 in   eax, dx
  ...[0x83, 0xe0, 0xf0], //                     and  eax, ~15
  ...[0x89, 0xf9], //                           mov  ecx, edi
  ...[0x31, 0xf6], //                           xor  esi, esi
  ...[0xf6, 0xc3, WRITES], //                   test bl, 0x80
  ...[0x75, 0x07], //                           jnz  writes
  // reads:
  ...[0x03, 0x70, READ_OFFSET], //              add  esi, [eax]
  ...[0xe2, 0xfb], //                           loop reads
  ...[0xeb, 0x08], //                           jmp  report
  // writes:
  ...[0x89, 0x48, WRITE_OFFSET], //             mov  [eax + 4], ecx
  ...[0xe2, 0xfb], //                           loop writes
  ...[0x8b, 0x70, WRITE_OFFSET], //             mov  esi, [eax + 4]
  // report:
  ...[0xb1, 0x04], //                           mov  cl, 4
  ...[0x66, 0xba, 0xf8, 0x02], //               mov  dx, 0x2f8
  // more:
  ...[0x89, 0xf0], //                           mov  eax, esi
  ...[0xee], //                                 out  dx, al              2: the low byte of what a loader leaves in EAX
  ...[0xc1, 0xee, 0x08], //                     shr  esi, 8
  ...[0xe2, 0xf8], //                           loop more
  ...[0xeb, 0xab], //                           jmp  main
  // getc:
  ...[0x66, 0xba, 0xfd, 0x02], //               mov  dx, 0x2fd
  ...[0xec], //                                 in   al, dx
  ...[0xa8, 0x01], //                           test al, 1
  ...[0x74, 0xf7], //                           jz   getc
  ...[0xb2, 0xf8], //                           mov  dl, 0xf8
  ...[0xec], //                                 in   al, dx
  ...[0x0f, 0xb6, 0xc0], //                     movzx eax, al
  0xc3, //                                      ret
];

/** The file for -kernel. */
export function loopImage(): Uint8Array {
  const end = LOAD_ADDRESS + HEADER_WORDS * 4 + CODE.length;
  const header = Uint32Array.of(
    MAGIC,
    HAS_ADDRESSES,
    -(MAGIC + HAS_ADDRESSES),
    LOAD_ADDRESS,
    LOAD_ADDRESS,
    end,
    end,
    LOAD_ADDRESS + HEADER_WORDS * 4,
  );
  return Uint8Array.of(...new Uint8Array(header.buffer), ...CODE);
}
