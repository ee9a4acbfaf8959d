/** `remora-system-x86_64` without its process: what the command line makes, and a session on it. */
import { QtestSession } from '@remora/qtest';
import { parseCommandLine, System } from '@remora/tools/system';
import type { Answering } from './transcripts.js';

export interface InProcess extends Answering, Disposable {
  readonly system: System;
  /** Lines that were no replies. */
  readonly told: readonly string[];
  ask(command: string): string;
}

export function inProcess(args: readonly string[]): InProcess {
  const system = new System(parseCommandLine(args), () => undefined);
  const told: string[] = [];
  const session = new QtestSession(system.qtest, line => told.push(line));
  return {
    system,
    told,
    ask: command => session.execute(command),
    reset: async () => {
      const monitor = await system.monitor();
      monitor.reset('host-qmp-system-reset');
    },
    [Symbol.dispose]: () => {
      session[Symbol.dispose]();
      system[Symbol.dispose]();
    },
  };
}
