/** Programs on an altered model and a real QEMU, up to the first that differs; the altered model runs in a process of its own. */
import { execFile } from 'node:child_process';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import type { Workshop } from '../mutants/workshop.js';
import { MORTAL } from '../rig/processes.js';

export interface Hunt {
  readonly qemu: string;
  readonly config: string;
  /** How many programs are run, from seed 1 on. */
  readonly count: number;
}

/** Where the two differed first. */
export interface Found {
  readonly seed: number;
  readonly line: string;
  readonly ours: string;
  readonly theirs: string;
}

/** In `--eval`: what it imports must be the workshop's. */
function script(tools: string, { qemu, config, count }: Hunt): string {
  return `
    const { askQemu, compare, configNamed, generate, ModelPeer, QemuPeer } = await import(${JSON.stringify(tools)});
    const config = configNamed(${JSON.stringify(config)});
    const program = ${JSON.stringify(qemu)};
    const theirs = await QemuPeer.start(config, { program, facts: await askQemu(program), testdev: false });
    const ours = new ModelPeer(config);
    let found = null;
    for (let seed = 1; found === null && seed <= ${count}; seed++) {
      const { difference } = await compare(generate(config, seed), { ours, theirs });
      if (difference !== undefined)
        found = { seed, line: difference.line.text, ours: difference.ours, theirs: difference.theirs };
    }
    await theirs[Symbol.asyncDispose]();
    console.log(JSON.stringify(found));`;
}

/** Undefined if no program differed. @throws Error if nothing could be compared. */
export async function hunt(workshop: Workshop, what: Hunt): Promise<Found | undefined> {
  const tools = pathToFileURL(join(workshop.folder, 'tools/dist/diff/index.js')).href;
  const args = ['--input-type=module', '--eval', script(tools, what)];
  return new Promise((resolve, reject) => {
    execFile(process.execPath, args, { ...MORTAL, maxBuffer: 2 ** 26 }, (error, stdout, stderr) => {
      if (error === null) resolve((JSON.parse(stdout) as Found | null) ?? undefined);
      else reject(new Error(`nothing was compared: ${error.message}\n${stderr}`));
    });
  });
}
