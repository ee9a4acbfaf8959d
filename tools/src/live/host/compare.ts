/** A real kernel's answers and a simulated one's, side by side. */
import { DIFFERENCES } from './differences.js';
import type { Answer } from './script.js';

/** A step that was answered in two ways; undefined: one of them never came to it. */
export interface Disagreement {
  readonly step: string;
  readonly real: Answer | undefined;
  readonly simulated: Answer | undefined;
  /** Why that is as it should be; undefined: it is not. */
  readonly why: string | undefined;
}

export interface Comparison {
  /** How many steps were answered alike. */
  readonly same: number;
  readonly disagreements: readonly Disagreement[];
}

export function compare(real: readonly Answer[], simulated: readonly Answer[]): Comparison {
  const reasons = new Map(DIFFERENCES.flatMap(({ steps, why }) => steps.map(step => [step, why])));
  const left = new Map(simulated.map(answer => [answer.step, answer]));
  const disagreements: Disagreement[] = [];
  const differ = (step: string, one: Answer | undefined, other: Answer | undefined): void =>
    void disagreements.push({ step, real: one, simulated: other, why: reasons.get(step) });
  for (const answer of real) {
    const other = left.get(answer.step);
    left.delete(answer.step);
    if (other === undefined || JSON.stringify(other) !== JSON.stringify(answer)) differ(answer.step, answer, other);
  }
  for (const [step, other] of left) differ(step, undefined, other);
  return { same: real.length - disagreements.filter(({ real: one }) => one !== undefined).length, disagreements };
}

/** `map/no size: EINVAL, and simulated 0` */
export function formatDisagreement({ step, real, simulated }: Disagreement): string {
  return `${step}: ${formatAnswer(real)}, and simulated ${formatAnswer(simulated)}`;
}

function formatAnswer(answer: Answer | undefined): string {
  if (answer === undefined) return 'nothing';
  return `${answer.result}${answer.out === undefined ? '' : ` ${JSON.stringify(answer.out)}`}`;
}
