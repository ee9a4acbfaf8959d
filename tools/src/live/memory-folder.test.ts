import { existsSync, mkdirSync, mkdtempSync, rmSync, utimesSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import test from 'ava';
import { memoryFolder } from './memory-folder.js';
import { LiveError } from './peers/live-error.js';

/** No process has such a number. */
const NOBODY = 2 ** 31 - 1;
const HOURS_AGO = Date.now() / 1000 - 2 * 3600;

test('what processes have left that are no more goes, and nothing else', t => {
  const place = mkdtempSync(join(tmpdir(), 'remora-place-'));
  t.teardown(() => rmSync(place, { recursive: true }));
  const folder = (name: string, old: boolean): string => {
    const path = join(place, name);
    mkdirSync(path);
    writeFileSync(join(path, 'memory'), 'x');
    if (old) utimesSync(path, HOURS_AGO, HOURS_AGO);
    return path;
  };
  const left = folder(`remora-memory-${NOBODY}-abc`, true);
  const staying = [
    folder(`remora-memory-${NOBODY}-new`, false),
    folder(`remora-memory-${process.pid}-own`, true),
    folder(`others-${NOBODY}-abc`, true),
  ];
  let path: string;
  {
    using memory = memoryFolder(1, [place]);
    path = memory.path;
    t.is(dirname(path), place);
    t.true(existsSync(path));
  }
  t.false(existsSync(path));
  t.false(existsSync(left));
  for (const each of staying) t.true(existsSync(each), each);
});

test('the first place that has room; none has', t => {
  using memory = memoryFolder(1, ['/nowhere/at/all', tmpdir()]);
  t.is(dirname(memory.path), tmpdir());
  t.throws(() => memoryFolder(2 ** 60, [tmpdir()]), {
    instanceOf: LiveError,
    message: /^a guest needs \d+ MiB of room in /,
  });
});
