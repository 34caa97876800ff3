import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { docker } from './docker-cleanup.ts'

/** A container as somebody else runs it: no image of Berth's, the server given on the command line. */
export interface ForeignContainer {
  /** Beside the one of the protocol. `dev.berth.for` keeps it out of other tests' sight. */
  readonly labels: Readonly<Record<string, string>>
  readonly token?: string
  readonly name?: string
  /** More arguments of `docker run`. */
  readonly options?: readonly string[]
}

const server = readFileSync(join(import.meta.dirname, '../testdata/docker/speaks/server.py'), 'utf8')

/** Starts it; answers its id. Its maker removes it. */
export function runForeign({ labels, token, name, options = [] }: ForeignContainer): Promise<string> {
  const marks = Object.entries({ 'dev.berth.protocol': '1', ...labels }).flatMap(([key, value]) => [
    '--label',
    `${key}=${value}`,
  ])
  const named = name === undefined ? [] : ['--name', name]
  const secret = token === undefined ? [] : ['--env', `BERTH_TOKEN=${token}`]
  const program = ['python:3.13-slim-trixie', 'python3', '-c', server]
  return docker('run', '--detach', ...named, ...marks, ...secret, ...options, ...program)
}
