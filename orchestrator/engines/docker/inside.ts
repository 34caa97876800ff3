/** Where things are inside the containers that Berth makes: one table for the builder, the installer and the tests. */
export const inside = {
  port: 8000,
  /** Owner of everything that a module may write. No user of any base image. */
  uid: 10001,
  runner: '/berth/runner',
  node: '/berth/runner/bin/node',
  uv: '/berth/runner/bin/uv',
  /** Compiled code of the runner, made with its image. */
  compiled: '/berth/runner/compile-cache',
  main: '/berth/runner/app/module-runner/server/main.ts',
  install: '/berth/runner/app/module-runner/server/install.ts',
  /** Root of the environment's volume, and the folder in it that holds the marker. */
  environmentMount: '/berth/env',
  environment: '/berth/env/env',
  /** Holds the module's folder under its own id. */
  modules: '/berth/module',
  dataMount: '/berth/data',
  data: '/berth/data/module',
  cacheMount: '/berth/cache',
  cache: '/berth/cache/models',
  downloadsMount: '/berth/downloads',
  downloads: '/berth/downloads/cache',
  /** Of the installer: files of the host (certificates) and room on the disk for temporary files. */
  scratchMount: '/berth/scratch',
  hostFiles: '/berth/scratch/host',
  temporary: '/berth/scratch/tmp',
} as const

/** A module's folder inside; ids that are no plain file name get one. */
export function moduleFolder(module: string): string {
  return `${inside.modules}/${/^[\w-][\w .@+-]*$/.test(module) ? module : 'module'}`
}
