import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { gunzipSync } from 'node:zlib';
import test, { type ExecutionContext } from 'ava';
import { LiveError } from '../peers/live-error.js';
import { RecordingFile } from './recording-file.js';

function folder(t: ExecutionContext): string {
  const made = mkdtempSync(join(tmpdir(), 'remora-recording-'));
  t.teardown(() => rmSync(made, { recursive: true }));
  return made;
}

/** Where a recording is while it is written. */
function partOf(made: string): string {
  return join(
    made,
    readdirSync(made).find(name => /^boot\.trace(\.gz)?\.\w+$/.test(name))!,
    'part',
  );
}

for (const name of ['boot.trace', 'boot.trace.gz']) {
  test(`${name}: many lines are written as they come, and are there when all have come`, t => {
    const made = folder(t);
    const path = join(made, name);
    const lines = Array.from({ length: 100_000 }, (_, index) => `T 00:04.0 - ${index.toString(16)}000 r`);
    using file = new RecordingFile(path);
    for (const line of lines) file.write(line);
    t.false(existsSync(path));
    t.true(readFileSync(partOf(made)).length > 0, 'not all of it is in memory');
    file.finish();
    const bytes = readFileSync(path);
    t.deepEqual((name.endsWith('.gz') ? gunzipSync(bytes) : bytes).toString().trimEnd().split('\n'), lines);
    t.deepEqual(readdirSync(made), [name]);
  });
}

test('one that is not finished leaves nothing, and an older one where it is', t => {
  const made = folder(t);
  writeFileSync(join(made, 'old.trace'), 'old');
  for (const name of ['old.trace', 'new.trace']) {
    using file = new RecordingFile(join(made, name));
    file.write('a line');
  }
  t.deepEqual(readdirSync(made), ['old.trace']);
  t.is(readFileSync(join(made, 'old.trace'), 'utf8'), 'old');
});

test('what cannot be written is refused, with the path', t => {
  const made = folder(t);
  const refused = (path: string, problem: RegExp): void => {
    const error = t.throws(() => new RecordingFile(path), { instanceOf: LiveError });
    t.true(error.message.startsWith('--record: ') && error.message.includes(path), error.message);
    t.regex(error.message, problem);
  };
  writeFileSync(join(made, 'file'), '');
  refused(made, /is there, and is no file$/);
  refused('/dev/null', /is there, and is no file$/);
  refused(join(made, 'nowhere', 'boot.trace'), /no such file or folder$/);
  refused(join(made, 'file', 'boot.trace'), /is not in a folder$/);
});

test('a disk that is full is told of when the recording is finished, and no sooner', t => {
  if (!existsSync('/dev/full')) {
    t.pass();
    return;
  }
  const made = folder(t);
  const path = join(made, 'boot.trace');
  using file = new RecordingFile(path);
  symlinkSync('/dev/full', partOf(made));
  for (let index = 0; index < 100_000; index++) file.write('T 00:04.0 - 1000 r');
  t.throws(() => file.finish(), { instanceOf: LiveError, message: /boot\.trace: there is no room for it$/ });
  t.false(existsSync(path));
});
