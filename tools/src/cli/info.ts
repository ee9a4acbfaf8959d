/** `remora info MACHINE`: what it is made of, before its guest does anything. */
import type { MachineDefinition } from '@remora/machine';
import { Capability, type PciBus, type PciFunction } from '@remora/pci';
import { close, runSteps } from './run-steps.js';
import type { Streams } from './streams.js';

export interface InfoOptions {
  readonly seed: number;
  readonly json?: boolean;
}

/** @throws ConfigError if the machine cannot be built. */
export function info(definition: MachineDefinition, options: InfoOptions, streams: Streams): void {
  const machine = runSteps(definition, { seed: options.seed, count: 0 });
  try {
    const state = machine.inspect().toJSON();
    if (options.json === true) {
      streams.stdout.write(`${JSON.stringify(state)}\n`);
      return;
    }
    const parts = [
      `${definition.name}: ${definition.description}`,
      section('Buses', busTree(machine.board.rootBus, '')),
      section('Memory', machine.memory.tree()),
      section('I/O ports', machine.ports.tree()),
      section('Devices', machine.ids.map(id => deviceText(id, state)).join('\n')),
    ];
    streams.stdout.write(`${parts.join('\n')}\n`);
  } finally {
    close(machine);
  }
}

function section(title: string, text: string): string {
  const lines = text.trimEnd().split('\n');
  return `\n${title}\n${lines.map(line => `  ${line}`).join('\n')}`;
}

/** Functions by place with their capabilities, each bridge followed by what is behind it. */
function busTree(bus: PciBus, indent: string): string {
  const behind = [...bus.walk()].filter(fn => fn.bus !== bus);
  const lines = [`${indent}${bus.name}`];
  for (const fn of bus.functions) {
    if (fn === undefined) continue;
    const id = [fn.config.read(0, 2), fn.config.read(2, 2)].map(word => word.toString(16).padStart(4, '0')).join(':');
    lines.push(`${indent}  ${fn.bdf}  ${id}  ${fn.name}  ${capabilitiesOf(fn)}`.trimEnd());
    const below = behind.find(other => other.bus?.parent === fn)?.bus;
    if (below !== undefined) lines.push(busTree(below, `${indent}    `));
  }
  return lines.join('\n');
}

const CAPABILITIES = new Map([
  [Capability.MSI, 'MSI'],
  [Capability.MSIX, 'MSI-X'],
  [Capability.EXPRESS, 'Express'],
]);

function capabilitiesOf(fn: PciFunction): string {
  const names = [...CAPABILITIES].filter(([id]) => fn.capabilities.find(id) !== undefined).map(([, name]) => name);
  if (fn.pasidBits > 0) names.push(`PASID (${fn.pasidBits} bits)`);
  return names.join(', ');
}

/** What a device says of itself; options that are off or not given are left out. */
function deviceText(id: string, state: Record<string, unknown>): string {
  const devices = state['devices'] as Record<string, Record<string, unknown>>;
  const { driver, config, ...rest } = devices[id]!;
  const options = Object.entries(config as Record<string, unknown>)
    .filter(([, value]) => value !== false && value !== undefined && value !== null)
    .map(([name, value]) => `,${name}=${value === true ? 'on' : String(value)}`);
  return [`${id}: ${String(driver)}${options.join('')}`, ...tree(rest, '  ')].join('\n');
}

function tree(values: Record<string, unknown>, indent: string): string[] {
  return Object.entries(values).flatMap(([name, value]) => {
    if (typeof value !== 'object' || value === null || Array.isArray(value))
      return [`${indent}${name}: ${plain(value)}`];
    const fields = Object.entries(value as Record<string, unknown>);
    const flat = fields.every(([, inner]) => typeof inner !== 'object' || inner === null);
    if (!flat) return [`${indent}${name}:`, ...tree(value as Record<string, unknown>, `${indent}  `)];
    const set = fields
      .filter(([, inner]) => inner !== 0 && inner !== '0x0')
      .map(([key, inner]) => `${key}=${plain(inner)}`);
    return [`${indent}${name}: ${set.join(' ')}`.trimEnd()];
  });
}

function plain(value: unknown): string {
  return typeof value === 'string' ? value : JSON.stringify(value);
}
