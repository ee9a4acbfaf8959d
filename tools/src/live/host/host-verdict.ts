/** Whether our clients found on a real kernel what they should, and a simulated host answers alike. */
import type { BootReport } from '../console.js';
import type { Check } from '../verdict.js';
import { compare, formatDisagreement } from './compare.js';
import type { Answer } from './script.js';

/** Steps that a run has at least: containers, mappings, a device, its transfers. */
const LEAST_ANSWERS = 200;
/** Where the device is made to write although nothing is mapped; Linux prints some of what is reported soon after one another. */
const REFUSED = '0x300000';
const FAULT = /DMAR: \[DMA Write[^\]]*\] Request device \[(?:0000:)?00:04\.0\] fault addr (0x[0-9a-f]+)/;

/** `simulated`: what a simulated host answers to the same scripts. */
export function hostVerdict(
  boot: BootReport | undefined,
  console: readonly string[],
  answers: readonly Answer[],
  simulated: readonly Answer[],
): Check[] {
  const said = (keyword: string): string => boot?.said.get(keyword)?.join(', ') ?? 'nothing said';
  const checks: Check[] = [];
  const check = (name: string, ok: boolean, found: string): void => void checks.push({ name, ok, found });
  check('finished', boot?.said.has('done') === true, boot?.said.has('done') === true ? 'yes' : 'no');
  check('bound', /^(\S+ vfio-pci(, )?){2,3}$/.test(said('function')), said('function'));
  check('node', /^0 /.test(said('node')), [said('node'), ...(boot?.said.get('complaint') ?? [])].join('; '));
  const { same, disagreements } = compare(answers, simulated);
  const wrong = disagreements.filter(({ why }) => why === undefined);
  check('answers', answers.length >= LEAST_ANSWERS, String(answers.length));
  const agreed = `${same} alike, ${disagreements.length - wrong.length} not, for a reason`;
  check('agreed', answers.length > 0 && wrong.length === 0, wrong.map(formatDisagreement).join('; ') || agreed);
  const transfers = answers.filter(({ out }) => out === 'all').length;
  check('transfers', transfers >= 4, String(transfers));
  const faults = console.map(line => FAULT.exec(line)?.[1]).filter(address => address !== undefined);
  check('refused', faults.includes(REFUSED), faults.join(', ') || 'no fault');
  return checks;
}
