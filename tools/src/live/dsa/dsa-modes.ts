/** Ways of giving Linux a Data Streaming Accelerator. */

/** How a simulated host lends it: by a VFIO container as RFC v3.1 has them, or by iommufd. */
export type Lending = 'container' | 'iommufd';

export interface DsaMode {
  readonly name: string;
  readonly description: string;
  /** Absent: it is the machine's own, and there is no host. */
  readonly lending?: Lending;
  /** The first kernel with which that works; absent: any. */
  readonly since?: number;
}

export const DSA_MODES: readonly DsaMode[] = [
  { name: 'dsa', description: "an accelerator that is the machine's own" },
  {
    name: 'dsa-vfio',
    description: "a simulated host's, by a VFIO container with first stages (RFC v3.1)",
    lending: 'container',
    // Earlier ones copy without PASIDs, and such a container binds none to requests without.
    since: 7,
  },
  { name: 'dsa-iommufd', description: "a simulated host's, by iommufd", lending: 'iommufd' },
];
