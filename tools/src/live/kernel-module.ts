/**
 * Modules of this project's own for a live guest's kernel, compiled for exactly that one. Debian's headers are enough; its kbuild is not used:
 * its programs need libraries of the release that the kernel is of, which this machine may not be.
 */
import { spawnSync } from 'node:child_process';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { LiveError } from './peers/live-error.js';

const SOURCES = fileURLToPath(new URL('../../live/modules/', import.meta.url));
const COMPILER = 'gcc';

/** Why no module can be compiled here; undefined if one can be. */
export function missingCompiler(): string | undefined {
  return spawnSync(COMPILER, ['--version']).error === undefined ? undefined : `${COMPILER} is not there`;
}

/**
 * Compiles tools/live/modules/`name`.c into `folder`, for the kernel that `headers` are of (usr/src/linux-headers-*). Returns the path of the
 * module. @throws LiveError
 */
export function buildKernelModule(name: string, headers: string, folder: string): string {
  const missing = missingCompiler();
  if (missing !== undefined) throw new LiveError(`${missing}: it compiles a module for the guest's kernel`);
  const at = (suffix: string): string => join(folder, `${name}${suffix}`);
  const flags = [...environment(headers), ...CODE, ...names(name), '-c'];
  run(COMPILER, [...flags, join(SOURCES, `${name}.c`), '-o', at('.o')]);
  writeFileSync(at('.mod.c'), description(name, needed(at('.o')), headers));
  run(COMPILER, [...flags, at('.mod.c'), '-o', at('.mod.o')]);
  run('ld', ['-r', '-m', 'elf_x86_64', '-z', 'noexecstack', '-o', at('.ko'), at('.o'), at('.mod.o')]);
  return at('.ko');
}

/** Where the kernel's headers are, and what each of its sources sees first. */
function environment(headers: string): string[] {
  const common = headers.replace(/(-cloud|-rt)?-amd64$/, '-common');
  const folders = ['arch/x86/include', 'include', 'arch/x86/include/uapi', 'include/uapi'].flatMap(path => {
    const made = path.startsWith('arch') ? path.replace('include', 'include/generated') : path;
    return [join(common, path), join(headers, made)];
  });
  const first = ['compiler-version.h', 'kconfig.h', 'compiler_types.h'];
  return [
    '-nostdinc',
    ...[...folders, join(headers, 'include/generated/uapi')].flatMap(each => ['-I', each]),
    ...first.flatMap(each => ['-include', join(common, 'include/linux', each)]),
  ];
}

/** Code as a kernel on x86-64 needs it: no red zone, no vector registers, no relocation that it does not know, indirect branches by its thunks. */
const CODE = [
  ...['-std=gnu11', '-fms-extensions', '-fshort-wchar', '-funsigned-char', '-O2', '-w', '-m64', '-mcmodel=kernel'],
  ...['-mno-red-zone', '-mno-sse', '-mno-mmx', '-mno-80387', '-mno-fp-ret-in-387', '-mpreferred-stack-boundary=3'],
  ...['-fno-pie', '-fno-common', '-fno-strict-aliasing', '-fno-strict-overflow', '-fno-delete-null-pointer-checks'],
  ...['-fno-stack-protector', '-fno-asynchronous-unwind-tables', '-fno-jump-tables', '-fcf-protection=branch'],
  ...['-mindirect-branch=thunk-extern', '-mindirect-branch-register'],
];

function names(name: string): string[] {
  const words = ['KBUILD_MODNAME', 'KBUILD_BASENAME', 'KBUILD_MODFILE'].map(word => `-D${word}="${name}"`);
  return ['-D__KERNEL__', '-DMODULE', `-D__KBUILD_MODNAME=kmod_${name}`, ...words];
}

/** Symbols that the kernel has to provide: all but the module's own structure, which its description has. */
function needed(object: string): string[] {
  const missing = [...run('nm', ['-u', object]).matchAll(/U (\S+)/g)].map(([, symbol]) => symbol!);
  return missing.filter(symbol => symbol !== '__this_module');
}

/** What the kernel asks of a module: which kernel it is for, where it begins and ends, and the versions of what it uses. */
function description(name: string, symbols: readonly string[], headers: string): string {
  const versions = new Map<string, string>();
  for (const line of readFileSync(join(headers, 'Module.symvers'), 'utf8').split('\n')) {
    const [version, symbol] = line.split('\t');
    if (symbol !== undefined) versions.set(symbol, version!);
  }
  const unknown = symbols.find(symbol => !versions.has(symbol));
  if (unknown !== undefined) throw new LiveError(`${name}.c: the kernel exports no ${unknown}`);
  const used = ['module_layout', ...symbols].filter(symbol => versions.has(symbol));
  return `
#define INCLUDE_VERMAGIC
#include <linux/module.h>
#include <linux/vermagic.h>
MODULE_INFO(name, "${name}");
MODULE_INFO(vermagic, VERMAGIC_STRING);
MODULE_INFO(depends, "");
MODULE_INFO(retpoline, "Y");
struct module __this_module __visible __section(".gnu.linkonce.this_module") = {
  .name = "${name}", .init = init_module, .exit = cleanup_module, .arch = MODULE_ARCH_INIT,
};
#ifdef CONFIG_MODVERSIONS
static const struct modversion_info versions[] __used __section("__versions") = {
${used.map(symbol => `  { ${versions.get(symbol)}, "${symbol}" },`).join('\n')}
};
#endif
`;
}

function run(program: string, args: readonly string[]): string {
  const { status, stdout, stderr, error } = spawnSync(program, args, { encoding: 'utf8' });
  if (status === 0) return stdout;
  const said = error?.message ?? stderr.split('\n').find(line => /error|undefined/i.test(line)) ?? 'failed';
  throw new LiveError(`${program}: ${said.trim()}`);
}
