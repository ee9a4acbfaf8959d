/**
 * Copies of the compiled model in temporary folders, to be altered there: laid out as in the repository, so that what is imported
 * by name from a copied package is the copy. What is not copied is linked.
 */
import { existsSync } from 'node:fs';
import { cp, mkdir, mkdtemp, readdir, readFile, realpath, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join, relative } from 'node:path';
import { fileURLToPath } from 'node:url';

const REPOSITORY = fileURLToPath(new URL('../../../', import.meta.url));
const NODE_MODULES = join(REPOSITORY, 'node_modules');
const SCOPES = ['@hw', '@remora'] as const;
/** Packages that are altered, and those that must import them altered, for judges that need no others. */
const FEW: Readonly<Record<string, string>> = {
  '@hw/intel-iommu': 'hw/intel-iommu',
  '@remora/iommu': 'packages/iommu',
  '@remora/tools': 'tools',
};

/** A source transformation: what stands exactly once in a compiled file becomes something else. */
export interface Alteration {
  /** From the repository's root. */
  readonly file: string;
  readonly find: string;
  readonly replace: string;
}

/** Alters a text. @throws Error unless `find` stands in it exactly once: then the mutant no longer is what its name says. */
export function altered(text: string, { file, find, replace }: Alteration): string {
  const parts = text.split(find);
  if (parts.length !== 2) throw new Error(`${file}: "${find}" stands there ${parts.length - 1} times, not once`);
  return parts.join(replace);
}

/** Every package of the repository that has been built, with its folder. */
async function everyPackage(): Promise<Record<string, string>> {
  const found: Record<string, string> = {};
  for (const scope of SCOPES) {
    for (const name of await readdir(join(NODE_MODULES, scope))) {
      const folder = await realpath(join(NODE_MODULES, scope, name));
      if (existsSync(join(folder, 'dist'))) found[`${scope}/${name}`] = relative(REPOSITORY, folder);
    }
  }
  return found;
}

export class Workshop implements AsyncDisposable {
  readonly folder: string;

  private constructor(folder: string) {
    this.folder = folder;
  }

  /** With `whole` every package is copied, so that machines have the altered model. @throws Error if an alteration does not fit. */
  static async open(alterations: readonly Alteration[], whole: boolean): Promise<Workshop> {
    const workshop = new Workshop(await mkdtemp(join(tmpdir(), 'remora-mutant-')));
    try {
      await workshop.#fill(whole ? await everyPackage() : FEW);
      for (const alteration of alterations) {
        const file = join(workshop.folder, alteration.file);
        await writeFile(file, altered(await readFile(file, 'utf8'), alteration));
      }
      return workshop;
    } catch (error) {
      await workshop[Symbol.asyncDispose]();
      throw error;
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await rm(this.folder, { recursive: true, force: true });
  }

  async #fill(copied: Readonly<Record<string, string>>): Promise<void> {
    for (const path of Object.values(copied)) {
      await cp(join(REPOSITORY, path, 'package.json'), join(this.folder, path, 'package.json'));
      await cp(join(REPOSITORY, path, 'dist'), join(this.folder, path, 'dist'), {
        recursive: true,
        filter: source => !/\.(ts|map|tsbuildinfo)$/.test(source),
      });
    }
    await writeFile(join(this.folder, 'package.json'), '{ "type": "module", "private": true }\n');
    const files = "['{hw,packages}/*/dist/**/*.test.js', 'test/dist/**/*.test.js']";
    // AVA's own limit is ten seconds; whoever runs it here has one.
    await writeFile(join(this.folder, 'ava.config.js'), `export default { files: ${files}, timeout: '1h' };\n`);
    await this.#link(copied);
  }

  async #link(copied: Readonly<Record<string, string>>): Promise<void> {
    const from = NODE_MODULES;
    const to = join(this.folder, 'node_modules');
    for (const scope of SCOPES) {
      await mkdir(join(to, scope), { recursive: true });
      for (const name of await readdir(join(from, scope))) {
        const copy = copied[`${scope}/${name}`];
        const target = copy === undefined ? join(from, scope, name) : join(this.folder, copy);
        await symlink(target, join(to, scope, name));
      }
    }
    for (const name of await readdir(from)) {
      if (!name.startsWith('.') && name !== '@hw' && name !== '@remora')
        await symlink(join(from, name), join(to, name));
    }
  }
}
