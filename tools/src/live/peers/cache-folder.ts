import { homedir } from 'node:os';
import { join } from 'node:path';

/** Where what was fetched is kept: `REMORA_CACHE`, or a folder of the user's cache as the XDG base directory specification has it. */
export function cacheFolder(environment: NodeJS.ProcessEnv = process.env): string {
  const { REMORA_CACHE: own, XDG_CACHE_HOME: caches } = environment;
  if (own !== undefined && own !== '') return own;
  return join(caches !== undefined && caches !== '' ? caches : join(homedir(), '.cache'), 'remora');
}
