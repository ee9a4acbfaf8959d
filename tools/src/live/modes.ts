/** Ways of starting Linux on the model: how the unit is made, and what Linux is told. */

export interface LiveMode {
  readonly name: string;
  readonly description: string;
  /** Options of intel-iommu besides its defaults. */
  readonly unit: Readonly<Record<string, boolean | number | string>>;
  /** Kernel parameters besides the usual ones. */
  readonly parameters: readonly string[];
  /** `type` of the IOMMU groups of disk and edu, as Linux shows it. */
  readonly domain: 'DMA' | 'DMA-FQ' | 'identity';
  /** The fault that the provoked transfer ends in; undefined where every address is let through. */
  readonly fault: { readonly reason: number; readonly message: string } | undefined;
  readonly cpus: number;
  /** The disk stands behind a root port. */
  readonly rootPort: boolean;
  /** How often the guest boots in one run. */
  readonly boots: number;
  /** How messages of interrupts go through the unit: not at all, or through its table to local APICs of this kind. */
  readonly remapping: 'off' | 'xapic' | 'x2apic';
}

const NO_READ = { reason: 0x06, message: 'PTE Read access is not set' };
const NO_READ_SCALABLE = { reason: 0x79, message: 'SM: Read/Write permission error in second-level paging entry' };
const NOT_PRESENT = { reason: 0x71, message: 'SM: Present bit in first-level paging entry is clear' };

const LEGACY: LiveMode = {
  name: 'legacy',
  description: 'second-stage tables, unmapped pages flushed in batches (Debian 12 without scalable mode)',
  unit: {},
  parameters: ['intremap=off'],
  domain: 'DMA-FQ',
  fault: NO_READ,
  cpus: 1,
  rootPort: false,
  boots: 1,
  remapping: 'off',
};

export const MODES: readonly LiveMode[] = [
  LEGACY,
  {
    ...LEGACY,
    name: 'strict',
    description: 'each unmapped page is flushed at once',
    parameters: [...LEGACY.parameters, 'iommu.strict=1'],
    domain: 'DMA',
  },
  {
    ...LEGACY,
    name: 'pt',
    description: 'devices pass through',
    parameters: [...LEGACY.parameters, 'iommu=pt'],
    domain: 'identity',
    fault: undefined,
  },
  {
    ...LEGACY,
    name: 'scalable',
    description: 'scalable mode, first-stage tables',
    // Both stages: Linux 6.1 sets AW in entries of the first stage, too, and a unit without a second one reserves it (VT-d 9.6).
    unit: { 'x-scalable-mode': 'on', nesting: true },
    fault: NOT_PRESENT,
  },
  {
    ...LEGACY,
    name: 'second-stage',
    description: 'scalable mode, second-stage tables',
    unit: { 'x-scalable-mode': 'on' },
    fault: NO_READ_SCALABLE,
  },
  {
    ...LEGACY,
    name: 'ir',
    description: 'interrupts are remapped, too',
    unit: { intremap: true },
    // QEMU's own I/O APIC does not ask the unit: what it sends in the remappable format is lost.
    parameters: ['no_timer_check'],
    remapping: 'xapic',
  },
  {
    ...LEGACY,
    name: 'eim',
    description: 'interrupts are remapped, to processors with x2APIC',
    unit: { intremap: true, eim: 'on' },
    parameters: ['no_timer_check'],
    remapping: 'x2apic',
  },
  { ...LEGACY, name: 'smp', description: 'two processors', cpus: 2 },
  { ...LEGACY, name: 'root-port', description: 'the disk stands behind a PCI Express root port', rootPort: true },
  { ...LEGACY, name: 'reboot', description: 'Linux reboots, and finds the unit as after power-on', boots: 2 },
];
