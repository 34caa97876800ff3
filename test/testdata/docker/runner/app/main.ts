// Answers like a runner, runs JavaScript that a test sends, and leaves on SIGTERM only when it was not told otherwise.
import http from 'node:http'
import { createRequire } from 'node:module'

const require = createRequire(import.meta.url)
const { BERTH_PORT, BERTH_TOKEN, BERTH_MODULE, TEST_STUBBORN, TEST_EXIT } = process.env
if (TEST_EXIT !== undefined) {
  console.log('this runner leaves at once')
  process.exit(Number(TEST_EXIT))
}
console.log('runner up')
console.error('and an error line')
process.on('SIGTERM', () => {
  console.log('SIGTERM')
  if (TEST_STUBBORN === undefined) process.exit(0)
})

async function answer(path: string, body: string): Promise<unknown> {
  if (path === '/health') return { protocol: 1, state: 'idle', models: [], inflight: 0 }
  if (path === '/module') return JSON.parse(BERTH_MODULE ?? '{}')
  if (path === '/token') return BERTH_TOKEN
  if (path === '/run') return await new Function('require', `return (async () => { ${body} })()`)(require)
  throw new Error('no such path')
}

http
  .createServer(async (request, reply) => {
    let body = ''
    for await (const chunk of request) body += chunk
    try {
      reply.end(JSON.stringify(await answer(request.url ?? '', body)) ?? 'null')
    } catch (error) {
      reply.statusCode = 500
      reply.end(JSON.stringify({ error: String(error) }))
    }
  })
  .listen(Number(BERTH_PORT))
