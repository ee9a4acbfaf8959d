/** `docs/differences-from-qemu.md`: what differs from QEMU, and why, from the reviewed lists. */
import { JUSTIFIED, LEFT_OUT } from '../diff/index.js';
import { type BehaviourChapter, behaviourChapters, type BehaviourDifference } from './behaviours.js';

/** Where the document is, from the repository's root. */
export const DOCUMENT = 'docs/differences-from-qemu.md';
export const COMMAND = 'npm run docs:differences';

/** Where the specification (VT-d, revision 4 and later) speaks of it, by the chapter's file. */
const SECTIONS: Readonly<Record<string, string>> = {
  ats: 'VT-d 4 (device TLBs)',
  caches: 'VT-d 6.2 (what may be cached, and what invalidates it)',
  interrupts: 'VT-d 5 (interrupt remapping)',
  lookup: 'VT-d 3.4 and 9.1 to 9.6 (root, context and PASID entries)',
  queue: 'VT-d 6.5.2 (queued invalidation)',
  registers: 'VT-d 7 and 11.4 (faults, registers)',
  walks: 'VT-d 3.6 to 3.8, 9.7 and 9.8 (paging entries, walks)',
};

const HEAD = `# What differs from QEMU, and why

<!-- Written by \`${COMMAND}\` from what is named below; do not edit. -->

Remora's \`intel-iommu\` follows the specification. QEMU's departs from it in places; with \`compat=qemu-10.2\` Remora's does the same, which
recordings of QEMU 10.2 prove (\`remora replay\`), and random programs that run on both sides (\`remora diff --qemu PATH\`).
`;

/** @throws Error if the lists do not fit together. */
export function differencesDocument(repository: string): string {
  const chapters = behaviourChapters(repository);
  const count = chapters.reduce((sum, { differences }) => sum + differences.length, 0);
  return [
    HEAD,
    '## Where Remora and QEMU 10.2 differ by default',
    `The ${count} departures of QEMU 10.2 from the specification, from \`hw/intel-iommu/src/device/behaviour.ts\`; each is one flag there, and has a guest program in \`compat/\` beside it. First what a guest sees of QEMU, then what the flag stands for.`,
    ...chapters.flatMap(chapter),
    '## What remains different with `compat=qemu-10.2`',
    'Differences of a run of `remora diff` that are as they should be, from `tools/src/diff/justified.ts`. An entry that nothing hits fails the run.',
    list(
      JUSTIFIED.map(({ id, section, reason, series }) => {
        const versions = series === undefined ? '' : ` (QEMU ${series.join(', ')})`;
        return `\`${id}\`${versions}, ${section}: ${reason}.`;
      }),
    ),
    '## What is not compared',
    'What random programs leave out, from the same file.',
    list(LEFT_OUT.map(({ what, section, reason }) => `${what} (${section}): ${reason}.`)),
  ]
    .map(block => `${block.trimEnd()}\n`)
    .join('\n');
}

function chapter({ name, title, differences }: BehaviourChapter): string[] {
  const section = SECTIONS[name];
  if (section === undefined) throw new Error(`compat/${name}: its section of the specification is not named`);
  return [`### ${title}`, `${section}.`, list(differences.map(difference))];
}

function difference({ flag, doc, remora, qemu, seen }: BehaviourDifference): string {
  const values = remora === undefined || qemu === undefined ? '' : ` (Remora: ${remora}, QEMU: ${qemu})`;
  return `${seen[0]!.toUpperCase()}${seen.slice(1)}. \`${flag}\`${values}: ${doc}`;
}

function list(items: readonly string[]): string {
  return items.length === 0 ? 'None.' : items.map(item => `- ${item}`).join('\n');
}
