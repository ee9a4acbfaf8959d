/** Where a simulated host may answer otherwise than Linux, and why. Everything else is a mistake of host-sim's. */
export interface ExpectedDifference {
  /** Names of steps. */
  readonly steps: readonly string[];
  readonly why: string;
}

const information = ['of 16 bytes', 'of 24 bytes', 'of 40 bytes', 'with all that follows', 'after eight mappings'];
/** Told of by a group's device and by one that is bound to an iommufd. */
const both = (names: readonly string[]): string[] =>
  ['device', 'bound device'].flatMap(chapter => names.map(name => `${chapter}/${name}`));

export const DIFFERENCES: readonly ExpectedDifference[] = [
  {
    steps: [
      ...information.map(name => `${name === 'after eight mappings' ? 'map' : 'information'}/${name}`),
      'unmap/when all is unmapped',
      'unmap/dirty pages as an ioctl',
    ],
    why: 'containers of host-sim keep no log of written pages, and do not say that they do (capability 2, VFIO_IOMMU_DIRTY_PAGES)',
  },
  {
    steps: ['map/address of before', 'unmap/addresses only'],
    why: 'addresses that change below their mappings (VADDR flags, for live update) are not modelled',
  },
  { steps: both(['region 0']), why: "registers of host-sim's devices cannot be mapped into a process" },
  {
    steps: [
      ...both(['interrupt 0', 'interrupt 3', 'interrupt 4']),
      'interrupts/the pin',
      'interrupts/events of the pin',
      'interrupts/unmask the pin that was set up',
      'interrupts/events of the pin again',
      'interrupts/disable the pin',
    ],
    why: 'of interrupts host-sim lends messages only: neither the pin, nor those of errors and of requests to give the device back',
  },
  {
    steps: ['attach/ranges'],
    why: 'of a unit with both stages Linux takes the first for address spaces, which has half the addresses; host-sim takes the second',
  },
  { steps: ['configuration/command at first'], why: "the guest's firmware has written to the register before" },
];
