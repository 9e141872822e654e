# pushwatch alone. PostgreSQL and NATS are other containers, as in
# docker-compose.yml: the embedded ones need PostgreSQL's programs, which are not
# in here.
FROM golang:1.26.8-trixie AS build
WORKDIR /src
COPY go.mod go.sum ./
RUN go mod download
COPY . .
# timetzdata: CRON_TZ=Zone works although the image has no zones.
RUN CGO_ENABLED=0 go build -trimpath -buildvcs=false -tags timetzdata -ldflags "-s -w" -o /pushwatch ./cmd/pushwatch

# Not distroless: the health checks of docker-compose.yml are a line of bash.
FROM debian:13.1-slim
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
COPY --from=build /pushwatch /usr/local/bin/pushwatch
USER 10001:10001
ENTRYPOINT ["pushwatch"]
CMD ["run"]
