/** Modes beside those of MODES: they are no ways of using the unit in front of the disk, but have machines of their own. */
import { DSA_MODES, DSA_PEERS, dsaRun } from './dsa/index.js';
import { hostRun, nestingRun } from './host/host-run.js';
import type { LiveResult, Stage } from './live-run.js';
import type { PeerOptions, Peers } from './peers/peers.js';

export interface OwnMode {
  readonly name: string;
  /** What it boots. */
  readonly peers: Omit<PeerOptions, 'folder' | 'kernel' | 'update' | 'mirror'>;
  /** @throws LiveError if it comes to no boot at all. */
  run(peers: Peers, stage: Stage, complain: Stage): Promise<LiveResult>;
}

export const OWN_MODES: readonly OwnMode[] = [
  ...DSA_MODES.map((mode): OwnMode => ({
    name: mode.name,
    peers: DSA_PEERS,
    run: (peers, stage, complain) => dsaRun(mode, peers, stage, complain),
  })),
  { name: 'host', peers: { flavour: 'cloud' }, run: hostRun },
  { name: 'host-nesting', peers: { flavour: 'cloud' }, run: nestingRun },
];
