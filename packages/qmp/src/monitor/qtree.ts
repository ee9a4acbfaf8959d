import type { BusDevice, DeviceBus, QmpTarget } from '../target.js';

/** `info qtree`: buses, the devices on them with their properties, and the buses of these. */
export function formatQtree(target: QmpTarget, brief: boolean): string {
  const bus = target.mainBus();
  return bus === undefined ? '' : busLines(bus, '', brief).join('\n');
}

function busLines(bus: DeviceBus, indent: string, brief: boolean): string[] {
  const devices = bus.devices.flatMap(device => deviceLines(device, `${indent}  `, brief));
  return [`${indent}bus: ${bus.name}`, `${indent}  type ${bus.type}`, ...devices];
}

function deviceLines({ node, id, details, buses }: BusDevice, indent: string, brief: boolean): string[] {
  const inner = `${indent}  `;
  const properties = node.properties.filter(each => !HIDDEN.has(each.name) && !each.type.startsWith('link<'));
  const shown = brief ? [] : [...properties.map(each => `${each.name} = ${text(each.get())}`), ...details];
  return [
    `${indent}dev: ${node.type}, id "${id}"`,
    ...shown.map(line => inner + line),
    ...buses.flatMap(bus => busLines(bus, inner, brief)),
  ];
}

/** What every device has, and the tree says otherwise. */
const HIDDEN: ReadonlySet<string> = new Set(['realized', 'hotplugged', 'hotpluggable', 'addr', 'legacy-addr']);

function text(value: unknown): string {
  if (typeof value === 'number') return `${value} (0x${value.toString(16)})`;
  return typeof value === 'boolean' ? String(value) : JSON.stringify(value ?? '');
}
