import { readFileSync } from 'node:fs';
import { CHECK_NAMES, MODES } from '@remora/tools/live';
import test from 'ava';

test('every mode and every check of remora live is in docs/live-linux.md, in order', t => {
  const text = readFileSync(new URL('../../../docs/live-linux.md', import.meta.url), 'utf8');
  const rows = [...text.matchAll(/^\| `([\w-]+)` +\|/gm)].map(([, name]) => name);
  t.deepEqual(rows, [...CHECK_NAMES, ...MODES.map(({ name }) => name)]);
});
