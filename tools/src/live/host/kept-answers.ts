/** Answers of a real kernel in a file, for who has none: one a line, so that what changes shows. */
import type { Answer } from './script.js';

export interface KeptAnswers {
  /** As the kernel calls itself. */
  readonly linux: string;
  readonly qemu: string;
  /** In front of the devices. */
  readonly unit: string;
  /** Whether that nests. */
  readonly nesting: boolean;
  readonly answers: readonly Answer[];
}

export function keptText({ answers, ...head }: KeptAnswers): string {
  const lines = answers.map(answer => `    ${JSON.stringify(answer)}`);
  return `${JSON.stringify(head, undefined, 2).slice(0, -2)},\n  "answers": [\n${lines.join(',\n')}\n  ]\n}\n`;
}

/** Whether the kernel had an iommufd. */
export function hadIommufd({ answers }: Pick<KeptAnswers, 'answers'>): boolean {
  return answers.some(({ step }) => step.startsWith('iommufd/'));
}
