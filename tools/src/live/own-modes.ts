/** Modes beside those of MODES: they are no ways of using the unit in front of the disk, but have machines of their own. */
import { DSA_MODES, DSA_PEERS, dsaRun, type Lending } from './dsa/index.js';
import { hostRun, nestingRun } from './host/host-run.js';
import type { LiveResult, Stage } from './live-run.js';
import type { PeerOptions, Peers } from './peers/peers.js';
import type { UnitsAround } from './served-unit.js';

export interface OwnMode {
  readonly name: string;
  readonly lending?: Lending;
  /** What it boots. */
  readonly peers: Omit<PeerOptions, 'folder' | 'kernel' | 'update' | 'mirror'>;
  /** Whether what Linux does to a unit of this project's can be recorded. */
  readonly records: boolean;
  /** `around` is put around the unit that can be recorded. @throws LiveError if it comes to no boot at all. */
  run(peers: Peers, stage: Stage, complain: Stage, around?: UnitsAround): Promise<LiveResult>;
}

export const OWN_MODES: readonly OwnMode[] = [
  ...DSA_MODES.map((mode): OwnMode => ({
    ...mode,
    peers: DSA_PEERS,
    records: true,
    run: (peers, stage, complain, around) => dsaRun(mode, peers, stage, complain, around),
  })),
  { name: 'host', peers: { flavour: 'cloud' }, records: false, run: hostRun },
  { name: 'host-nesting', peers: { flavour: 'cloud' }, records: false, run: nestingRun },
];
