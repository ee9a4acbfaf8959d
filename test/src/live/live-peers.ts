/** What live tests boot: they fetch nothing themselves. */
import { cachedPeers, cacheFolder, type Peers } from '@remora/tools/live';

/** Of these kernels all are needed; the tests are skipped without one of them. */
export type Kernel = '6.1' | '7.2';

/** As the cache folder has them, or why there are none. */
export function findLivePeers(kernel: Kernel): Peers | { readonly missing: string } {
  const peers = cachedPeers({ folder: cacheFolder(), kernel, flavour: 'cloud' });
  return peers ?? { missing: ` (skipped: "remora live --fetch --kernel ${kernel}" gets what it boots)` };
}
