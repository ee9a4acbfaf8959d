/** `remora info MACHINE`: what it is made of, before its guest does anything. */
import type { MachineDefinition } from '@remora/machine';
import type { PciBus } from '@remora/pci';
import { close, runSteps } from './run-steps.js';
import type { Streams } from './streams.js';

export interface InfoOptions {
  readonly seed: number;
  readonly json?: boolean;
}

/** @throws ConfigError if the machine cannot be built. */
export function info(definition: MachineDefinition, options: InfoOptions, streams: Streams): void {
  const machine = runSteps({ ...definition, steps: () => [] }, { seed: options.seed });
  try {
    const state = machine.inspect();
    if (options.json === true) {
      streams.stdout.write(`${JSON.stringify(state.toJSON())}\n`);
      return;
    }
    const parts = [`${definition.name}: ${definition.description}`];
    parts.push(section('Buses', busTree(machine.board.rootBus, '')));
    parts.push(section('Memory', machine.memory.tree()));
    parts.push(section('I/O ports', machine.ports.tree()));
    parts.push(section('Devices', state.toString()));
    streams.stdout.write(`${parts.join('\n')}\n`);
  } finally {
    close(machine);
  }
}

function section(title: string, text: string): string {
  const lines = text.trimEnd().split('\n');
  return `\n${title}\n${lines.map(line => `  ${line}`).join('\n')}`;
}

/** Functions by place, each bridge followed by what is behind it. */
function busTree(bus: PciBus, indent: string): string {
  const behind = [...bus.walk()].filter(fn => fn.bus !== bus);
  const lines = [`${indent}${bus.name}`];
  for (const fn of bus.functions) {
    if (fn === undefined) continue;
    const id = [fn.config.read(0, 2), fn.config.read(2, 2)].map(word => word.toString(16).padStart(4, '0')).join(':');
    lines.push(`${indent}  ${fn.bdf}  ${id}  ${fn.name}`);
    const below = behind.find(other => other.bus?.parent === fn)?.bus;
    if (below !== undefined) lines.push(busTree(below, `${indent}    `));
  }
  return lines.join('\n');
}

