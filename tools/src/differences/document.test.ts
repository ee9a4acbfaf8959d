import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import test from 'ava';
import { JUSTIFIED, LEFT_OUT } from '../diff/index.js';
import { behaviourChapters } from './behaviours.js';
import { COMMAND, differencesDocument, DOCUMENT } from './document.js';

const REPOSITORY = fileURLToPath(new URL('../../../', import.meta.url));

test('the committed document is the one that the lists give', t => {
  const committed = readFileSync(`${REPOSITORY}${DOCUMENT}`, 'utf8');
  t.is(differencesDocument(REPOSITORY), committed, `write it anew: ${COMMAND}`);
});

test('each flag of the compatible profile is there, with what it means and what a guest sees', t => {
  const source = readFileSync(`${REPOSITORY}hw/intel-iommu/src/device/behaviour.ts`, 'utf8');
  const profile = source.slice(source.indexOf('export const QEMU_10_2'));
  const flags = [...profile.matchAll(/^ {2}(\w+):/gm)].map(([, flag]) => flag!);
  t.true(flags.length > 50);
  const text = differencesDocument(REPOSITORY);
  for (const flag of flags) t.is(text.split(`\`${flag}\``).length, 2, flag);
  const all = behaviourChapters(REPOSITORY).flatMap(({ differences }) => differences);
  t.is(all.length, flags.length);
  const undocumented = all.filter(({ doc }) => doc === '').map(({ flag }) => flag);
  t.deepEqual(undocumented, []);
});

test('each justified difference, and each thing left out, is there', t => {
  const text = differencesDocument(REPOSITORY);
  for (const { id, reason } of JUSTIFIED) t.true(text.includes(`\`${id}\``) && text.includes(reason), id);
  for (const { what, section, reason } of LEFT_OUT) t.true([what, section, reason].every(part => text.includes(part)));
});
