import { statSync } from 'node:fs'
import { BerthError } from './domain/errors.ts'

/**
 * In a container: begin as root only to learn which group may use the Docker socket, then go on as an ordinary user of
 * that group. BERTH_RUN_AS is `UID:GID`; without it, or without being root, nothing is changed.
 */
export function dropPrivileges(env: NodeJS.ProcessEnv): void {
  const runAs = env.BERTH_RUN_AS
  if (runAs === undefined || runAs === '' || process.getuid?.() !== 0) return
  const match = /^(\d+):(\d+)$/.exec(runAs)
  if (!match) {
    throw new BerthError('CONFIG_INVALID', `BERTH_RUN_AS is \`${runAs}\`; it must be UID:GID, such as 10001:10001.`, {
      field: 'BERTH_RUN_AS',
    })
  }
  const [uid, gid] = [Number(match[1]), Number(match[2])]
  const socketGroup = groupOf(env.DOCKER_HOST?.replace(/^unix:\/\//, '') || '/var/run/docker.sock')
  process.setgroups?.(socketGroup === undefined ? [gid] : [gid, socketGroup])
  process.setgid?.(gid)
  process.setuid?.(uid)
}

function groupOf(path: string): number | undefined {
  try {
    return statSync(path).gid
  } catch {
    return undefined
  }
}
