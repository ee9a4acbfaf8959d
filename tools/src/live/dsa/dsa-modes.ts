/** Ways of giving Linux a Data Streaming Accelerator. */

/** How a simulated host lends it: by a VFIO container as RFC v3.1 has them, or by iommufd. */
export type Lending = 'container' | 'iommufd';

export interface DsaMode {
  readonly name: string;
  readonly description: string;
  /** Absent: it is the machine's own, and there is no host. */
  readonly lending?: Lending;
  /** What the guest does: has the accelerator copy, lets it fault, or leaves it alone and gets PASIDs. */
  readonly guest: 'copies' | 'faults' | 'pasids';
  /** Kernels that have what it takes, by their major numbers; absent: all. */
  readonly kernels?: { readonly fit: (major: number) => boolean; readonly why: string };
}

export const DSA_MODES: readonly DsaMode[] = [
  { name: 'dsa', description: "an accelerator that is the machine's own", guest: 'copies' },
  {
    name: 'dsa-vfio',
    description: "a simulated host's, by a VFIO container with first stages (RFC v3.1)",
    lending: 'container',
    guest: 'copies',
    kernels: {
      fit: major => major >= 7,
      why: "Linux 7 or later: others copy without PASIDs, and the host's containers bind nothing to that",
    },
  },
  { name: 'dsa-iommufd', description: "a simulated host's, by iommufd", lending: 'iommufd', guest: 'copies' },
  {
    name: 'dsa-faults',
    description: "a simulated host's, by iommufd with event queues: what faults there is told to Linux",
    lending: 'iommufd',
    guest: 'faults',
  },
  {
    name: 'vcmd',
    description: 'PASIDs of a simulated host, by virtual command (RFC v3.1)',
    lending: 'container',
    guest: 'pasids',
    kernels: { fit: major => major < 7, why: 'Linux 6.1: later ones number their own PASIDs' },
  },
];

/** Whether the kernel, as `6.1` or with what comes after, has what the mode takes. */
export function fits({ kernels }: DsaMode, version: string): boolean {
  return kernels === undefined || kernels.fit(Number.parseInt(version, 10));
}
