// What is no complete recording gets one clear line on standard error and exit code 2.
import { readFile } from 'node:fs/promises';
import { gzipSync } from 'node:zlib';
import test, { type ExecutionContext } from 'ava';
import { runReplay, shippedRecordings } from '@remora/tools';
import { linesOf, temporaryFile, textFile } from './altered-recording.js';

interface Run {
  readonly code: number;
  readonly out: string;
  readonly err: string;
}

async function run(...args: string[]): Promise<Run> {
  let out = '';
  let err = '';
  const code = await runReplay(args, {
    stdout: { write: text => (out += text) },
    stderr: { write: text => (err += text) },
  });
  return { code, out, err };
}

/** The file is refused with one line that names it and matches `problem`. */
async function refused(t: ExecutionContext, file: string, problem: RegExp): Promise<void> {
  const { code, out, err } = await run(file, '--json');
  t.is(code, 2);
  t.is(out, '');
  t.regex(err, /^remora replay: [^\n]+\n$/);
  t.true(err.includes(file), err);
  t.regex(err, problem);
}

test('a gzip that ends early', async t => {
  const whole = await readFile(shippedRecordings()[0]!);
  const file = await temporaryFile(t, 'short.trace.gz', whole.subarray(0, whole.length >> 1));
  await refused(t, file, /trace\.gz:\d+: expected more gzipped text: unexpected end of file/);
});

test('a gzip with a wrong byte', async t => {
  const whole = Buffer.from(await readFile(shippedRecordings()[0]!));
  whole[whole.length >> 1]! ^= 0x55;
  await refused(t, await temporaryFile(t, 'bad.trace.gz', whole), /bad\.trace\.gz:\d+: expected /);
});

test('text that ends without "# end"', async t => {
  const lines = await linesOf('E61leg');
  await refused(t, await textFile(t, lines.slice(0, 100)), /altered\.trace:100: .*truncated: expected "# end"/);
});

test('text that ends within a line', async t => {
  const lines = await linesOf('E61leg');
  const text = lines.join('\n').slice(0, -20);
  await refused(t, await temporaryFile(t, 'cut.trace', text), /cut\.trace:\d+: /);
});

test('a recording that says it was cut off', async t => {
  const lines = await linesOf('E61leg');
  lines[lines.length - 1] = '# truncated';
  await refused(t, await textFile(t, lines), new RegExp(`altered\\.trace:${lines.length}: .*found "# truncated"`));
});

test('something after the end', async t => {
  const lines = [...(await linesOf('P72pt')), 'R 000 4 10'];
  await refused(t, await textFile(t, lines), /expected nothing after "# end", found "R 000 4 10"/);
});

for (const [what, contents, problem] of [
  ['an empty file', '', /:1: expected "# vtd-trace 1 .*found an empty file/],
  ['another text', 'hello\nworld\n', /:1: expected "# vtd-trace 1 .*found "hello"/],
  ['a gzip of another text', gzipSync('hello\n'), /:1: expected "# vtd-trace 1 .*found "hello"/],
  ['binary data without lines', new Uint8Array(200_000), /:1: expected a line/],
  ['another version of the format', '# vtd-trace 2 qemu 12\n# end\n', /:1: expected "# vtd-trace 1 /],
] as const) {
  test(`${what} is no recording`, async t => {
    await refused(t, await temporaryFile(t, 'foreign', contents), problem);
  });
}

test('a file that is not there', async t => {
  await refused(t, '/nonexistent/A61.trace.gz', /A61\.trace\.gz: no such file\n/);
});

test('a folder', async t => {
  await refused(t, import.meta.dirname, /expected a recording, found something that is not a file/);
});

for (const [what, replacement, problem] of [
  ['garbage', 'lorem ipsum', /expected a line of kind RESET, W, .*found "lorem ipsum"/],
  ['an empty line', '', /expected a line of kind .*found an empty line/],
  [
    'an indented line of a kind that stands alone',
    ' W 018 4 0',
    /expected an indented line of kind MR, .*found "W 018 4 0"/,
  ],
  ['a kind of line that there is not', 'Q 00:03.0 - 1000 r', /expected a line of kind RESET, W, .*found "Q 00:03\.0 /],
  [
    'a page request of another form',
    'P 00:03.0 - 1000 r 0 0 0 0 -> 0',
    /expected "P bdf pasid addr rwxp group last\|more", found "P /,
  ],
  ['a page request group that there is not', 'P 00:03.0 1 1000 r 200 last', /expected "P bdf pasid addr /],
  ['a refused page request with an answer', 'PF 00:03.0 1 1000 r 1 last -> 1', /expected "PF bdf pasid addr /],
  [
    'a translation request without an answer',
    'A 00:03.0 1 1000 r',
    /expected "A bdf pasid addr rwxp -> addr mask perm \[flags\]"/,
  ],
  ['a completion with an unknown flag', 'A 00:03.0 1 1000 r -> 2000 fff r q', /expected "A bdf pasid addr rwxp -> /],
  ['a completion that grants twice', 'A 00:03.0 1 1000 r -> 2000 fff rr', /expected "A bdf pasid addr rwxp -> /],
  [
    'an address with leading zeros, in a word of our own',
    'A 00:03.0 1 01000 r -> 2000 fff r',
    /expected "A bdf pasid addr /,
  ],
  [
    'a translation request refused for no reason',
    'AF 00:03.0 1 1000 r -> 5',
    /expected "AF bdf pasid addr rwxp -> ur\|ca"/,
  ],
  [
    'a translated request with a PASID of 21 bits',
    'D 00:03.0 100000 1000 r',
    /expected "D bdf pasid addr rwxp", found "D 00:03\.0 100000 /,
  ],
  [
    'a refused translated request without a status',
    'DF 00:03.0 1 1000 r',
    /expected "DF bdf pasid addr rwxp -> ur\|ca"/,
  ],
  ['a completion of nothing', 'C', /expected "C number", found "C"/],
  ['a completion of something', 'C later', /expected "C number", found "C later"/],
  [
    'a fault of a host with an address type of 3',
    'HF 00:03.0 1 1000 r 3 71 -> 71',
    /expected "HF bdf pasid addr rwxp 0\|1\|2 reason -> reason"/,
  ],
  ['a page group response that stands alone', 'PR 00:03.0 1 0 0', /expected a line of kind RESET, .*found "PR /],
  [
    'a page group response with a code of two digits',
    ' PR 00:03.0 1 0 10',
    /expected "PR bdf pasid group code \[host errno\]"/,
  ],
  [
    'a translation request within an operation',
    ' A 00:03.0 1 1000 r -> 2000 fff r',
    /expected an indented line of kind MR, .*found "A /,
  ],
  [
    'an invalidation with an answer of neither kind',
    ' N 00:03.0 1 0 fff devtlb soon',
    /expected "N bdf pasid iova mask devtlb \[\[all\] done\|later number\]"/,
  ],
  [
    'an invalidation that is done later, at no number',
    ' N 00:03.0 1 0 fff devtlb later',
    /expected "N bdf pasid iova mask devtlb /,
  ],
  [
    'a virtual command without an answer',
    ' VC 1 0',
    /expected "VC opcode pasid -> ok\|undefined\|no-pasid pasid", found "VC 1 0"/,
  ],
  ['a virtual command with an unknown answer', ' VC 1 0 -> maybe 5', /expected "VC opcode pasid -> /],
  [
    'a refused call without an errno',
    ' H settle -> ',
    /expected "H call parameters\.\.\. \[-> number\]", found "H settle -> "/,
  ],
  ['a register value that does not fit', 'W 018 4 123456789', /expected "W off 4\|8 val", found "W 018 4 123456789"/],
  ['a bad size', 'R 018 2 0', /expected "R off 4\|8 val", found "R 018 2 0"/],
  ['a bad device', 'T 00:23.0 - 1000 r -> 1000 fff r', /expected "T bdf pasid iova rw/],
  [
    'memory of another length than it says',
    ' MR 1000 8 0011',
    /expected "MR addr len hex\|ERR", found "MR 1000 8 0011"/,
  ],
  ['an odd digit', ' MW 1000 2 001', /expected "MW addr len hex"/],
] as const) {
  test(`${what} in a recording`, async t => {
    const lines = await linesOf('E61leg');
    lines.splice(50, 1, replacement);
    await refused(t, await textFile(t, lines), new RegExp(`altered\\.trace:51: ${problem.source}`));
  });
}

test('what happens below a message to a device is an operation', async t => {
  const lines = await linesOf('E61leg');
  for (const [below, problem] of [
    ['  MR 1000 8 0000000000000000', /:53: expected a line below PR of kind T, .*found "MR 1000 8 /],
    ['  W 018 4 0', /:53: expected a line below PR of kind T, .*found "W 018 4 0"/],
  ] as const) {
    const altered = lines.toSpliced(50, 0, 'W 088 4 20', ' PR 00:03.0 1 0 0', below);
    await refused(t, await textFile(t, altered), problem);
  }
});

test('an indented line before any other', async t => {
  const [first, second] = await linesOf('E61leg');
  await refused(
    t,
    await textFile(t, [first!, second!, ' MR 0 1 00', '# end']),
    /:3: expected a line that is not indented/,
  );
});

test('capabilities that the recorded options do not give', async t => {
  const lines = await linesOf('E61leg');
  lines[0] = lines[0]!.replace('cap=80d2008c222f0686', 'cap=80d2008c222f0687');
  await refused(t, await textFile(t, lines), /:1: expected cap=80d2008c222f0686, .*found cap=80d2008c222f0687/);
});

test('a width that the recorded version does not have', async t => {
  const lines = await linesOf('E61leg');
  lines[0] = lines[0]!.replace('aw=48', 'aw=57');
  await refused(t, await textFile(t, lines), /:1: recorded options\.aw-bits: 57 is not one of 39, 48/);
});

const OWN = '# vtd-trace 1 remora 0.1.0 cap=80d2008c222f0606 ecap=0000000000000f42 aw=48 cm=0 sm=0 flts=0 pasid=0';

test("options that this project's unit does not have, or whose capabilities are others", async t => {
  for (const [options, problem] of [
    ['speed=7', /:2: recorded options\.speed: /],
    ['aw-bits=50', /:2: recorded options\.aw-bits: "50" is not one of 39, 48, 57/],
    ['intremap=on', /:1: expected ecap=0000000000f00f4a, which the recorded options give, found ecap=0000000000000f42/],
  ] as const)
    await refused(t, await textFile(t, [OWN, `# cmd a test -device intel-iommu,${options}`, '# end']), problem);
});

test("a header that names nobody's unit", async t => {
  await refused(
    t,
    await textFile(t, [OWN.replace('remora', 'bochs'), '# end']),
    /:1: expected "# vtd-trace 1 qemu\|remora VERSION /,
  );
});

test('no file, and an unknown option', async t => {
  t.deepEqual(await run(), {
    code: 2,
    out: '',
    err: 'remora replay: expected a file; usage: remora replay FILE[.gz]... [--json]\n',
  });
  t.is(
    (await run('--yaml', 'x')).err,
    'remora replay: unknown option --yaml; usage: remora replay FILE[.gz]... [--json]\n',
  );
});
