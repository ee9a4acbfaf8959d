/** What Remora says it is to programs that know QEMU: the version whose behaviour it follows, and its boards under QEMU's names. */
import type { MachineInfo, QmpVersion } from '@remora/qmp';

export const VERSION: QmpVersion = { major: 10, minor: 2, micro: 2, package: 'remora-0.1.0' };

/** Of no version of QEMU: devices are as their specifications have them. */
const Q35: MachineInfo = {
  name: 'q35',
  'cpu-max': 4096,
  'hotpluggable-cpus': false,
  'numa-mem-supported': false,
  deprecated: false,
  'default-cpu-type': 'qemu64-x86_64-cpu',
  'default-ram-id': 'pc.ram',
  acpi: true,
};

const NONE: MachineInfo = {
  name: 'none',
  'cpu-max': 1,
  'hotpluggable-cpus': false,
  'numa-mem-supported': false,
  deprecated: false,
  'default-ram-id': 'ram',
  acpi: false,
};

/** Types of machine, for query-machines. */
export const MACHINES: readonly MachineInfo[] = [NONE, { ...Q35, name: 'pc-q35-10.2' }, Q35];

/** The object type of the machine with board `driver`, of that version of QEMU if it is known; without a board it is `none`. */
export function machineType(driver: string | undefined, version: string | undefined): string {
  if (driver === undefined) return `${NONE.name}-machine`;
  const versioned = `pc-${driver}-${version ?? ''}`;
  return `${MACHINES.some(({ name }) => name === versioned) ? versioned : driver}-machine`;
}
