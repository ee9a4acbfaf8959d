// Departures of QEMU 10.2 that no recording of Linux meets. The lines are those of random programs on the recorded unit.
import test from 'ava';
import { replayFile } from '@remora/tools';
import { textFile } from './altered-recording.js';

const LEGACY = '# vtd-trace 1 qemu 10.2.2 cap=80d2008c222f0606 ecap=0000000000000f42 aw=48 cm=0 sm=0 flts=0 pasid=0';
const REMAPPING = '# vtd-trace 1 qemu 10.2.2 cap=80d2008c22260206 ecap=0000000000f00f4e aw=39 cm=0 sm=0 flts=0 pasid=0';
const REMAPPING_RESET = 'RESET cap=80d2008c22260206 ecap=f00f4e';
const SCALABLE = '# vtd-trace 1 qemu 10.2.2 cap=80d2008c222f0606 ecap=0000480080000f42 aw=48 cm=0 sm=1 flts=0 pasid=0';

const RECORDINGS: Readonly<Record<string, readonly string[]>> = {
  'an entry of all ones counts as one that cannot be read': [
    LEGACY,
    'RESET cap=80d2008c222f0606 ecap=f42',
    'M 10000000 16 01100010000000000000000000000000',
    'M 10001380 16 01000410000000000202000000000000',
    'M 10040000 8 0310041000000000',
    'M 10041390 8 0320041000000000',
    'M 10042dd0 8 0300e0fe00000000',
    'W 020 8 10000000',
    'W 018 4 40000000',
    'W 018 4 80000000',
    'TF 00:07.0 - 1cb74a74b2 r -> 7 fff',
    ' MR fee00538 8 ffffffffffffffff',
    ' F 0038 hi=40ffff0700000038 lo=0000001cb74a7000',
    '# end',
  ],
  'a misaligned tail stops a queue of 256-bit descriptors': [
    SCALABLE,
    'RESET cap=80d2008c222f0606 ecap=480080000f42',
    'W 090 8 10008801',
    'W 018 4 4000000',
    'W 088 8 7fff0',
    'R 034 4 10',
    'R 080 8 0',
    '# end',
  ],
  'a PASID-cache descriptor stops a queue of 128-bit descriptors': [
    SCALABLE,
    'RESET cap=80d2008c222f0606 ecap=480080000f42',
    'M 10008000 16 11000000000000000000000000000000',
    'M 10008010 16 37000000000000000000000000000000',
    'M 10008020 16 25000000e9939685b8f0071000000000',
    'W 090 8 10008000',
    'W 018 4 4000000',
    'W 088 8 30',
    'R 080 8 10',
    'R 034 4 10',
    'M 10008010 16 2500000099fa5f4e40f0071000000000',
    'W 034 4 10',
    'R 034 4 0',
    'W 088 8 30',
    ' MW 1007f040 4 99fa5f4e',
    ' MW 1007f0b8 4 e9939685',
    'R 080 8 30',
    '# end',
  ],
  'interrupts: blocked and recorded, suppressed by FPD, in compatibility format, with a handle that wraps': [
    REMAPPING,
    REMAPPING_RESET,
    'W 0b8 8 10010007',
    'W 018 4 1000000',
    'W 018 4 2000000',
    'W 038 4 0',
    'M 100100d0 16 180081000000000038000b0000000000',
    'IF 0038 fee00178 2 f -> 22',
    ' MR 100100d0 16 180081000000000038000b0000000000',
    ' F 0038 hi=0000002200000038 lo=000d000000000000',
    ' IRQ 0 0',
    'R 034 4 2',
    'R 220 8 d000000000000',
    'R 228 8 8000002200000038',
    'W 22c 4 80000000',
    'IF 0038 fee0ffb8 2 n -> 0',
    'R 034 4 0',
    'M 10010580 16 1a007e00000000003800060000000000',
    'IF 0038 fee00ab8 3 f -> 0',
    'R 034 4 0',
    'IF 0038 feeffffc 2 f -> 22',
    ' F 0038 hi=0000002200000038 lo=0001000000000000',
    ' IRQ 0 0',
    'W 22c 4 80000000',
    'I 0038 fee02088 3 f -> fee02088 3',
    'M 10010280 16 1900c600000000003800000000000000',
    'I 0038 fee00510 c6 f -> fee00008 c0c6',
    '# end',
  ],
  'a device without a TLB is sent no invalidation': [
    REMAPPING,
    REMAPPING_RESET,
    'M 10008000 16 030000003800000000f0ffff00000000',
    'W 090 8 10008000',
    'W 018 4 4000000',
    'W 088 8 10',
    'R 080 8 10',
    'R 034 4 0',
    '# end',
  ],
};

for (const [what, lines] of Object.entries(RECORDINGS)) {
  test(what, async t => {
    const { differences, compared } = await replayFile(await textFile(t, lines));
    t.deepEqual(differences, []);
    t.true(compared >= 3);
  });
}
