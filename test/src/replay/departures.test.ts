// Departures of QEMU 10.2 that no recording of Linux meets. The lines are those of random programs on the recorded unit.
import test from 'ava';
import { replayFile } from '@remora/tools';
import { textFile } from './altered-recording.js';

const LEGACY = '# vtd-trace 1 qemu 10.2.2 cap=80d2008c222f0606 ecap=0000000000000f42 aw=48 cm=0 sm=0 flts=0 pasid=0';
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
};

for (const [what, lines] of Object.entries(RECORDINGS)) {
  test(what, async t => {
    const { differences, compared } = await replayFile(await textFile(t, lines));
    t.deepEqual(differences, []);
    t.true(compared >= 3);
  });
}
