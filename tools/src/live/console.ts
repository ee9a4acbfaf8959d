/** What a live guest says on its console: Linux's log, and in it the reports of its script. */

/** What one boot said. */
export interface BootReport {
  /** The script's words after each keyword, in the order said: `group` comes once a function. */
  readonly said: ReadonlyMap<string, readonly string[]>;
  /** Linux's messages about the unit, without their time: `DMAR: ...`, `DMAR-IR: ...`. */
  readonly dmar: readonly string[];
  /** All messages of Linux's own, without their time. */
  readonly messages: readonly string[];
}

/** `[    3.218566] remora: kernel 6.1`: time, then the message. A carriage return may stand at the end. */
const MESSAGE = /^\[ *\d+\.\d+\] (.*?)\r?$/;
const OURS = 'remora: ';
const UNIT = /^DMAR(-IR)?: /;

/** The boots of one console, in order: each begins where Linux names itself. */
export function bootReports(lines: readonly string[]): BootReport[] {
  const boots: { said: Map<string, string[]>; dmar: string[]; messages: string[] }[] = [];
  for (const line of lines) {
    const message = MESSAGE.exec(line)?.[1];
    if (message === undefined) continue;
    if (message.startsWith('Linux version ')) boots.push({ said: new Map(), dmar: [], messages: [] });
    const boot = boots.at(-1);
    if (boot === undefined) continue;
    if (message.startsWith(OURS)) {
      const [keyword, ...words] = message.slice(OURS.length).split(' ');
      boot.said.set(keyword!, [...(boot.said.get(keyword!) ?? []), words.join(' ')]);
      continue;
    }
    boot.messages.push(message);
    if (UNIT.test(message)) boot.dmar.push(message);
  }
  return boots;
}
