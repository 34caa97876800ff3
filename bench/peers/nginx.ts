import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir, userInfo } from 'node:os'
import { join } from 'node:path'
import { Missing } from '../comparison.ts'
import { childrenOf } from '../processes.ts'
import { answers, findProgram, freePort, startProgram } from '../programs.ts'

/** nginx as a bare hop to the same runner: one worker, connections kept alive, nothing buffered. */
export interface Nginx {
  readonly url: string
  /** Of its one worker. */
  readonly pid: number
  stop(): Promise<void>
}

export async function startNginx(runner: { readonly socket: string; readonly token: string }): Promise<Nginx> {
  const nginx = findProgram('nginx')
  if (nginx === undefined) throw new Missing('nginx is not installed (Debian: apt-get install nginx-light)')
  const folder = await mkdtemp(join(tmpdir(), 'berth-bench-nginx-'))
  const port = await freePort()
  const url = `http://127.0.0.1:${port}`
  await writeFile(join(folder, 'nginx.conf'), configuration(folder, port, runner))
  const stopAndClear = async (stop?: () => Promise<void>) => {
    await stop?.()
    await rm(folder, { recursive: true, force: true })
  }
  const args = ['-p', folder, '-c', join(folder, 'nginx.conf'), '-e', join(folder, 'error.log')]
  const program = await startProgram(nginx, args, { ready: () => answers(`${url}/health`) }).catch(
    async (error: unknown) => {
      await stopAndClear()
      throw error
    },
  )
  return { url, pid: childrenOf(program.pid)[0] ?? program.pid, stop: () => stopAndClear(program.stop) }
}

function configuration(folder: string, port: number, { socket, token }: { socket: string; token: string }): string {
  // Started by root, its worker would become somebody who may not enter the folder of the runner's socket.
  const owner = userInfo().uid === 0 ? 'user root;' : ''
  const temporary = ['client_body', 'proxy', 'fastcgi', 'uwsgi', 'scgi']
  return `
daemon off;
${owner}
worker_processes 1;
pid ${folder}/nginx.pid;
events { worker_connections 1024; }
http {
  access_log off;
  ${temporary.map((name) => `${name}_temp_path ${folder}/${name};`).join('\n  ')}
  client_max_body_size 64m;
  keepalive_requests 1000000000;
  upstream runner {
    server unix:${socket};
    keepalive 64;
    keepalive_requests 1000000000;
  }
  server {
    listen 127.0.0.1:${port};
    location / {
      proxy_pass http://runner;
      proxy_http_version 1.1;
      proxy_set_header Connection "";
      proxy_set_header Authorization "Bearer ${token}";
      proxy_buffering off;
    }
  }
}
`
}
