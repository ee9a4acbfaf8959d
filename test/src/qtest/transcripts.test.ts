import test from 'ava';
import { inProcess } from './in-process.js';
import { relocate } from './relocate.js';
import { BOARD_DIFFERENCES, isListed, replay, type Transcript, transcripts } from './transcripts.js';

for (const transcript of transcripts) {
  test(`${transcript.name}: every reply is the recorded one`, async t => {
    using program = inProcess(transcript.args);
    const differences = await replay(transcript, program);
    t.deepEqual(
      differences.filter(each => !isListed(each)),
      [],
    );
  });
}

test('each listed difference is met, once for each time that a test looks at that slot', async t => {
  const met = new Set<unknown>();
  for (const transcript of transcripts.filter(({ name }) => name.startsWith('iommu-intel-test'))) {
    using program = inProcess(transcript.args);
    const differences = await replay(transcript, program);
    for (const { at } of differences) met.add(at);
  }
  t.deepEqual([...met].sort(), BOARD_DIFFERENCES.map(({ at }) => at).sort());
});

const TABLES = { from: 0x1000_0000, size: 0x10_0000, to: 0x0123_4000 - 0x4000 };
const TARGETS = { from: 0x1010_0000, size: 0x10_0000, to: 0x1f0a_b000 };
/** Addresses that the tests give the device. Where nothing is translated they are the targets. */
const PASSED_THROUGH = { from: 0x1020_0000, size: 0x1000, to: 0x0777_7000 };
const REGISTERS = { from: 0xe000_0000, size: 0x1000, to: 0xcafe_0000 };

const passesThrough = ({ name }: Transcript): boolean => /test\.[24]$/.test(name);
const translated = transcripts.filter(({ name, exchanges }) => name.startsWith('iommu-intel') && exchanges.length > 1);

for (const transcript of translated) {
  test(`${transcript.name}: with its tables, targets and registers elsewhere`, async t => {
    const moves = [TABLES, TARGETS, REGISTERS, ...(passesThrough(transcript) ? [PASSED_THROUGH] : [])];
    const moved = relocate(transcript, moves);
    const target = moved.exchanges.at(-1)!;
    t.regex(target.command, /^read 0x(1f0ab|7777)567 0x4$/);
    t.is(target.reply, 'OK 0x78563412');
    const mentioned = moved.exchanges.flatMap(({ command }) => command.split(' ').map(Number));
    for (const { from, size } of moves) t.false(mentioned.some(value => value >= from && value < from + size));
    using program = inProcess(transcript.args);
    const differences = await replay(moved, program);
    t.deepEqual(
      differences.filter(each => !isListed(each)),
      [],
    );
    for (const { from } of moves) t.is(program.ask(`read 0x${(from + 0x567).toString(16)} 0x4`), 'OK 0x00000000');
  });

  test(`${transcript.name}: a table entry that is not written is noticed`, async t => {
    const root = transcript.exchanges.findIndex(({ command }) => command === 'writeq 0x10000000 0x10001001');
    t.true(root > 0);
    const without = transcript.exchanges.toSpliced(root, 1);
    using program = inProcess(transcript.args);
    const differences = await replay({ ...transcript, exchanges: without }, program);
    const result = differences.filter(each => !isListed(each));
    t.deepEqual(
      result.map(({ command, here }) => [command.slice(0, 15), here]),
      [
        ['read 0xe0000010', 'OK 0x0200adde'],
        [without.at(-1)!.command.slice(0, 15), 'OK 0x00000000'],
      ],
    );
  });
}
