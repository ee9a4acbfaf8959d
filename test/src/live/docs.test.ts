import { readFileSync } from 'node:fs';
import {
  CHECK_NAMES,
  DSA_MODES,
  dsaVerdict,
  faultsVerdict,
  type LentAccount,
  lentChecks,
  MODES,
} from '@remora/tools/live';
import test from 'ava';

const text = readFileSync(new URL('../../../docs/live-linux.md', import.meta.url), 'utf8');
const [before, shared] = text.split(/^## Shared virtual addressing$/m) as [string, string];

/** First columns of tables. */
function rows(of: string): string[] {
  return [...of.matchAll(/^\| `([^`]+)` +\|/gm)].map(([, name]) => name!);
}

test('every mode and every check of remora live is in docs/live-linux.md, in order', t => {
  t.deepEqual(rows(before), [...CHECK_NAMES, ...MODES.map(({ name }) => name)]);
});

test('so is every mode with an accelerator; the checks that are told of there are made, in that order', t => {
  const unit = { descriptors: new Map(), translated: 0, direct: 0, passed: 0, after: 0, faults: [] };
  const lent = { lending: 'iommufd', unit, calls: new Map(), faults: 0 } as unknown as LentAccount;
  const boot = { said: new Map([['kernel', ['7.2']]]), dmar: [], messages: [] };
  const verdicts = [dsaVerdict(boot, [], undefined), lentChecks(lent, unit, true), faultsVerdict(boot, [], unit, lent)];
  const made = [...new Set(verdicts.flat().map(({ name }) => name))];
  const told = rows(shared.split(/^## /m)[0]!);
  const modes = DSA_MODES.map(({ name }) => name);
  t.deepEqual(told.slice(0, modes.length), modes);
  const checks = told.slice(modes.length);
  t.deepEqual(
    checks,
    made.filter(name => checks.includes(name)),
  );
  t.true(checks.length >= 10);
});
