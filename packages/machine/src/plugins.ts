import { checkPlugin, type Plugin } from '@remora/core';
import type { ContainerModule } from 'inversify';

/**
 * The bindings of `plugins`, each plug-in once however often it was listed.
 * @throws ConfigError at `path[index]` for what is not a plug-in, or one for another interface.
 */
export function pluginModules(path: string, plugins: readonly Plugin[]): ContainerModule[] {
  return [...new Set(plugins.map((plugin, index) => checkPlugin(`${path}[${index}]`, plugin).module))];
}
